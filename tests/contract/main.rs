//! What a log is, stated once and tried on every host.

#![forbid(unsafe_code)]

mod appending;
mod blocking;
mod catalog;
mod holding;
mod joint;
mod keeping;
mod limits;
mod reading;
mod sealing;
mod storing;

use std::future::Future;

use thalweg::config::{BackendSetting, CommitSetting};
use thalweg_tests::{Owned, Sim, Threads, block_on, small};

/// Makes a test of every case for a host.
macro_rules! contract {
    ($host:ident) => {
        mod $host {
            contract!(@cases $host:
                appending::a_record_comes_back_as_it_was_appended
                appending::a_batch_keeps_its_order_and_is_one_append
                appending::opaque_bytes_come_back_untouched
                appending::offsets_are_dense_over_interleaved_appenders
                appending::an_acknowledged_record_is_readable_at_once
                appending::append_if_takes_the_offset_or_refuses
                appending::an_accepted_append_is_visible_to_those_who_ask
                appending::lingering_gathers_appends_into_one_group
                appending::dropped_tickets_and_readers_harm_nobody
                appending::counters_add_up
                reading::reading_starts_where_it_is_told
                reading::reading_by_time_finds_the_first_record_that_is_late_enough
                reading::time_is_looked_for_at_or_behind_the_log_start
                reading::a_reader_waits_at_the_end_and_wakes
                reading::a_reader_from_the_end_sees_only_what_is_new
                reading::a_reader_is_a_stream
                reading::records_begin_where_the_reader_does
                reading::the_tail_is_lent_without_a_copy
                reading::an_offset_not_given_out_yet_is_refused
                storing::reading_crosses_cache_wal_and_segments_without_a_seam
                storing::a_full_wal_file_of_one_partition_becomes_a_segment_in_place
                storing::small_partitions_share_segments_that_are_merged
                storing::a_large_partition_gets_segments_of_its_own
                storing::a_reader_follows_while_files_roll_seal_and_merge
                storing::reopening_gives_the_same_bytes
                storing::a_clean_close_leaves_nothing_to_drop
                storing::an_end_without_goodbye_loses_nothing_acknowledged
                storing::an_old_file_is_sealed_though_it_is_not_full
                storing::a_thousand_partitions_interleave
                sealing::several_full_files_become_one_segment
                sealing::full_files_that_wait_are_sealed_when_they_are_old
                sealing::a_file_to_promote_takes_those_before_it_along
                holding::a_reader_that_holds_every_view_never_stalls_appends
                catalog::partitions_are_made_listed_and_deleted
                catalog::a_name_can_be_used_again
                catalog::names_have_rules
                catalog::nothing_goes_to_a_deleted_partition
                catalog::deleting_ends_waiting_readers
                catalog::settings_survive_and_can_be_changed
                catalog::deleting_gives_the_space_back
                joint::an_append_over_partitions_is_answered_in_the_order_given
                joint::joint_appends_take_their_place_among_others
                joint::joint_appends_past_a_full_queue_keep_their_order
                joint::joint_appends_survive_reopening
                joint::a_joint_append_that_can_not_be_is_refused_whole
                keeping::trimming_moves_only_forward
                keeping::trimming_survives_a_restart
                keeping::a_trim_inside_a_batch_keeps_the_rest_of_it
                keeping::a_reader_below_the_log_start_is_moved_and_told
                keeping::retention_by_bytes_deletes_whole_segments
                keeping::retention_by_age_goes_by_the_records_timestamps
                keeping::compaction_keeps_the_last_record_of_each_key
                keeping::tombstones_go_when_they_are_old
                keeping::a_merge_keeps_what_a_trim_left_of_a_batch
                limits::a_batch_over_the_limit_is_refused
                limits::an_empty_batch_is_refused
                limits::a_compacted_partition_wants_keys
                limits::a_full_queue_gives_the_batch_back_and_then_goes_on
                limits::appends_past_a_full_queue_keep_their_order
                limits::a_ticket_dropped_in_line_takes_its_append_back
                limits::a_batch_at_the_limit_is_taken
                limits::there_are_only_so_many_partitions
            );
        }
    };
    (@cases $host:ident: $($topic:ident::$case:ident)+) => {
        $(
            #[test]
            fn $case() {
                super::$host(crate::$topic::$case);
            }
        )+
    };
}

fn uring<F: Future<Output = ()>>(case: impl Fn(Owned) -> F) {
    block_on(case(Owned::new(small(), BackendSetting::Auto, CommitSetting::Dsync)));
}

fn uring_write_then_sync<F: Future<Output = ()>>(case: impl Fn(Owned) -> F) {
    block_on(case(Owned::new(small(), BackendSetting::Auto, CommitSetting::WriteThenSync)));
}

fn blocking_dsync<F: Future<Output = ()>>(case: impl Fn(Owned) -> F) {
    block_on(case(Owned::new(small(), BackendSetting::Blocking, CommitSetting::Dsync)));
}

fn blocking_write_then_sync<F: Future<Output = ()>>(case: impl Fn(Owned) -> F) {
    block_on(case(Owned::new(small(), BackendSetting::Blocking, CommitSetting::WriteThenSync)));
}

fn one_thread<F: Future<Output = ()>>(case: impl Fn(Threads) -> F) {
    block_on(case(Threads::new(small(), 1, BackendSetting::Auto)));
}

fn three_threads<F: Future<Output = ()>>(case: impl Fn(Threads) -> F) {
    block_on(case(Threads::new(small(), 3, BackendSetting::Auto)));
}

fn three_threads_blocking<F: Future<Output = ()>>(case: impl Fn(Threads) -> F) {
    block_on(case(Threads::new(small(), 3, BackendSetting::Blocking)));
}

fn sim<F: Future<Output = ()>>(case: impl Fn(Sim) -> F) {
    for seed in 0..4 {
        println!("seed {seed}");
        block_on(case(Sim::new(small(), seed)));
    }
}

#[cfg(feature = "glommio")]
fn glommio<F: Future<Output = ()>>(case: impl Fn(thalweg_tests::Glommio) -> F) {
    thalweg_tests::Glommio::run(case(thalweg_tests::Glommio::new(small())));
}

contract!(uring);
contract!(uring_write_then_sync);
contract!(blocking_dsync);
contract!(blocking_write_then_sync);
contract!(one_thread);
contract!(three_threads);
contract!(three_threads_blocking);
contract!(sim);
#[cfg(feature = "glommio")]
contract!(glommio);
