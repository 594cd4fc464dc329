//! What every store promises, asked of every store; and what each one promises besides.
//!
//! `promises` and `copies` are the one list. A new backend is a line in `backends` and a line below.

#[path = "storage_contract/backends.rs"]
mod backends;
#[path = "storage_contract/copies.rs"]
mod copies;
#[path = "support/dice.rs"]
mod dice;
#[cfg(target_os = "linux")]
#[path = "storage_contract/disk.rs"]
mod disk;
#[cfg(target_os = "linux")]
#[path = "storage_contract/disk_descriptors.rs"]
mod disk_descriptors;
#[cfg(target_os = "linux")]
#[path = "storage_contract/disk_locks.rs"]
mod disk_locks;
#[cfg(target_os = "linux")]
#[path = "storage_contract/export.rs"]
mod export;
#[path = "storage_contract/fuse.rs"]
mod fuse;
#[path = "storage_contract/memory.rs"]
mod memory;
#[path = "support/plain.rs"]
mod plain;
#[path = "storage_contract/power.rs"]
mod power;
#[path = "storage_contract/promises.rs"]
mod promises;
#[path = "storage_contract/simulated.rs"]
mod simulated;

use snapgroup::storage::BlobName;

/// What a test ends with.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A name that is known to be good.
fn name(text: &str) -> BlobName {
    BlobName::parse(text).expect("the tests use plain names")
}

/// Makes each promise a test of its own on each backend.
macro_rules! hold {
    ($backend:ident: $($promise:ident)*) => {
        mod $backend {
            $(
                #[test]
                fn $promise() -> crate::Outcome {
                    let backend = crate::backends::$backend()?;
                    crate::promises::$promise(&*backend.store)
                }
            )*
        }
    };
}

/// The list of promises, for one backend.
macro_rules! every_promise_holds {
    ($backend:ident) => {
        hold! { $backend:
            b1_a_write_is_seen_through_every_handle
            b1_two_threads_write_different_ranges_at_once
            b2_a_read_fills_the_buffer_or_fails
            b2_a_read_at_the_end_of_all_addresses_is_past_the_end
            b3_a_write_past_the_end_leaves_a_gap_of_zeros
            b3_writing_nothing_changes_nothing
            b3_a_longer_length_shows_zeros_and_never_old_bytes
            b3_a_shorter_length_cuts_the_bytes_off_for_every_handle
            b3_a_punched_range_reads_as_zeros_and_nothing_else_does
            b3_a_punch_never_changes_the_length
            b3_a_length_or_a_write_that_no_file_could_have_is_refused
            b4_a_sync_succeeds_on_every_handle
            b6_a_handle_outlives_the_name
            b7_a_copy_is_what_a_read_and_a_write_would_do
            b7_past_the_end_of_the_source_are_zeros
            b7_copying_nothing_changes_nothing
            b7_a_copy_goes_from_any_handle_and_to_none_for_reading
            b7_a_copy_that_no_file_could_hold_is_refused
            b7_a_write_after_a_copy_is_seen_in_one_blob_only
            b7_two_threads_copy_to_different_ranges_at_once
            b7_a_copy_comes_from_and_goes_to_a_store_of_another_kind
            b7_a_large_copy_keeps_its_holes
            b8_what_is_left_out_is_zeros
            b8_nothing_is_found_at_the_end_or_after_it
            b8_a_large_hole_is_left_out
            b_a_handle_for_reading_refuses_every_change
            b_a_mebibyte_comes_back_as_it_was_written
            b_what_is_allocated_does_not_count_holes
            b9_handles_of_one_store_hold_a_blob_beside_each_other
            b10_after_a_change_the_stamp_is_another_one
            b10_what_is_not_changed_keeps_its_stamp
            s1_a_new_blob_is_empty_and_open_for_writing
            s1_a_taken_name_is_refused_and_its_bytes_stay
            s2_names_can_be_synced_after_every_change
            s3_an_odd_name_is_one_plain_name
            s4_a_store_has_one_owner_at_a_time
            s4_owning_a_store_adds_no_name
            s5_what_is_done_to_one_blob_is_not_seen_in_another
            s5_identity_tells_blobs_apart_and_names_of_one_time_together
            s_a_name_that_is_absent_is_not_found
            s_names_are_listed_in_order
            s_a_removed_name_can_be_made_anew
            s_a_location_tells_the_name
            z_a_read_across_the_end_is_extended_with_zeros
        }
    };
}

/// The contract, backend by backend.
mod contract {
    every_promise_holds!(in_memory);
    every_promise_holds!(simulated_over_memory);
    every_promise_holds!(simulated_disk);
    every_promise_holds!(simulated_over_simulated_disk);
    every_promise_holds!(fused_over_memory);
    hold! { plain_over_memory:
        b7_a_copy_is_what_a_read_and_a_write_would_do
        b7_past_the_end_of_the_source_are_zeros
        b7_copying_nothing_changes_nothing
        b7_a_copy_goes_from_any_handle_and_to_none_for_reading
        b7_a_copy_that_no_file_could_hold_is_refused
        b7_a_write_after_a_copy_is_seen_in_one_blob_only
        b7_two_threads_copy_to_different_ranges_at_once
        b7_a_copy_comes_from_and_goes_to_a_store_of_another_kind
        b8_what_is_left_out_is_zeros
        b8_nothing_is_found_at_the_end_or_after_it
    }
    #[cfg(target_os = "linux")]
    every_promise_holds!(on_disk);
    #[cfg(target_os = "linux")]
    every_promise_holds!(on_disk_mapped);
    #[cfg(target_os = "linux")]
    every_promise_holds!(on_disk_through_one_descriptor);
    #[cfg(target_os = "linux")]
    every_promise_holds!(fused_over_disk);
}
