//! Text in columns and in markup.

/// Parts `text` into lines of at most `width` characters, between words where it can.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        while word.len() > width {
            lines.push(word.drain(..width).collect());
        }
        if used > 0 && !word.is_empty() {
            line.push(' ');
            used += 1;
        }
        used += word.len();
        line.extend(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// `items` with `between` them, in lines of at most `width` characters; an item is parted only if it
/// alone is longer.
pub(crate) fn pack(items: &[String], between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line)
                if [line.as_str(), between, item].iter().map(|text| text.chars().count()).sum::<usize>()
                    <= width =>
            {
                line.push_str(between);
                line.push_str(item);
            }
            _ => lines.extend(wrap(item, width)),
        }
    }
    lines
}

/// `text` for an element or an attribute, in HTML and in XML alike: no character of it is markup, and
/// what XML does not allow becomes U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}');
            }
            plain => out.push(plain),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_within_long_ones() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("a bcdef g", 3), ["a", "bcd", "ef", "g"]);
        assert_eq!(wrap("  ", 3), [""]);
    }

    #[test]
    fn items_stay_whole_where_they_can() {
        let items = ["a b", "c d", "e f g h"].map(String::from);
        assert_eq!(pack(&items, " · ", 9), ["a b · c d", "e f g h"]);
        assert_eq!(pack(&items, " · ", 4), ["a b", "c d", "e f", "g h"]);
    }

    #[test]
    fn escaped_text_holds_no_markup() {
        assert_eq!(escape("<a b=\"c\">&'\u{0}\n"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd} ");
    }
}
