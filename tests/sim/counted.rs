//! What worlds did, for the scoreboard.

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a world did.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Counted {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Counted {
            /// Every figure with its name.
            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            /// What another one did too.
            pub(crate) fn add(&mut self, other: &Counted) {
                let most = self.open_ops_max.max(other.open_ops_max);
                $(self.$name += other.$name;)*
                self.open_ops_max = most;
            }
        }
    };
}

counted! {
    /// Worlds.
    seeds,
    /// Restarts.
    lives,
    /// Power cuts, of the world or of a copy, after each of which everything was looked at.
    crash_points,
    /// Power cuts while recovering among them.
    nested,
    /// Kills of the process.
    kills,
    /// Operations that a planned fault has hit.
    faults,
    /// Copies of the disk that were opened and read.
    copies,
    /// Copies that were damaged.
    damaged,
    /// Of those, how many said so; the damage to the others was to nothing in use.
    detected,
    /// Records acknowledged.
    acked,
    /// Records whose append was not answered before the shard ended.
    unknown,
    /// Records refused.
    refused,
    /// Records that readers read, beside those read after restarts.
    read,
    /// The most operations that an opening took.
    open_ops_max,
}
