//! Timestamps and durations as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last millisecond of the year 9999, the last that RFC 3339 can say.
const RFC3339_MS_MAX: i64 = 253_402_300_799_999;

/// A timestamp as RFC 3339 in UTC; none where that has no words for it.
pub(crate) fn rfc3339(timestamp_ms: i64) -> Option<String> {
    let ms = u64::try_from(timestamp_ms).ok().filter(|_| timestamp_ms <= RFC3339_MS_MAX)?;
    Some(humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string())
}

/// Reads a timestamp: milliseconds since the Unix epoch, or RFC 3339 with `Z` or an offset.
pub(crate) fn parse_timestamp_ms(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    let rule = "expected milliseconds since 1970 or RFC 3339, such as 2026-05-17T08:30:00Z";
    let refuse = || rule.to_owned();
    let (local, offset_s) = split_offset(text).ok_or_else(refuse)?;
    // A date alone is its midnight.
    let local = if local.contains(':') { local.to_owned() } else { format!("{local}T00:00:00") };
    let local = humantime::parse_rfc3339_weak(&local).map_err(|_| refuse())?;
    Ok(unix_ms(local).ok_or_else(refuse)? - offset_s * 1000)
}

fn unix_ms(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Splits the offset from UTC off the end, in seconds; none is UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let text = text.trim_end_matches(['Z', 'z']);
    // Dashes of the date are no offset: a time comes before it.
    let Some(sign_at) = text.rfind(['+', '-']).filter(|at| text[..*at].contains(':')) else {
        return Some((text, 0));
    };
    let (hours, minutes) = text[sign_at + 1..].split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some((&text[..sign_at], if text[sign_at..].starts_with('-') { -seconds } else { seconds }))
}

/// Reads a duration such as `7d` or `90min`, in milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(duration.as_millis()).map_err(|_| "too long".to_owned())
}

/// A duration as people write it.
pub(crate) fn duration(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// Reads a size such as `10GiB` or a number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<i64>) {
        assert_eq!(parse_timestamp_ms(text).ok(), want, "{text}");
    }

    #[test]
    fn a_timestamp_is_a_number_or_rfc_3339() {
        check("-5", Some(-5));
        check("1747470600000", Some(1_747_470_600_000));
        check("2025-05-17T08:30:00Z", Some(1_747_470_600_000));
        check("2025-05-17 08:30:00.250", Some(1_747_470_600_250));
        check("2025-05-17T10:30:00+02:00", Some(1_747_470_600_000));
        check("2025-05-17T08:00:00-00:30", Some(1_747_470_600_000));
        check("2025-05-17", Some(1_747_440_000_000));
        check("yesterday", None);
        check("2025-05-17T10:30:00+2", None);
        check("2025-05-17T10:30:00+99:00", None);
    }

    #[test]
    fn a_timestamp_outside_the_calendar_has_no_name() {
        assert_eq!(rfc3339(1_747_470_600_250).as_deref(), Some("2025-05-17T08:30:00.250Z"));
        assert_eq!(rfc3339(RFC3339_MS_MAX).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!((rfc3339(-1), rfc3339(i64::MAX)), (None, None));
    }

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(parse_bytes("10GiB"), Ok(10 << 30));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_duration_ms("7d"), Ok(604_800_000));
        assert!(parse_duration_ms("7").is_err());
    }
}
