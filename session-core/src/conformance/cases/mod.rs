//! The cases: each a promise, and the test of it.

mod cancellation;
mod expiry;
mod faults;
mod lifecycle;
mod model;
mod purging;
mod races;
mod records;
mod requests;
mod saves;
mod threads;
mod tokens;

use super::{Capabilities, Harness};

pub use cancellation::*;
pub use expiry::*;
pub use faults::*;
pub use lifecycle::*;
pub use model::*;
pub use purging::*;
pub use races::*;
pub use records::*;
pub use requests::*;
pub use saves::*;
pub use threads::*;
pub use tokens::*;

/// A promise of the contract, and its test.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    needs: fn(&Capabilities) -> bool,
    test: fn(&dyn Harness),
}

impl Case {
    /// The case of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn named(name: &str) -> Self {
        let found = cases().iter().find(|case| case.name == name);
        *found.unwrap_or_else(|| panic!("no case is named {name}"))
    }

    /// What the case is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a provider of these capabilities makes the promise.
    pub fn applies(&self, capabilities: &Capabilities) -> bool {
        (self.needs)(capabilities)
    }

    /// Tests the promise, if the provider makes it.
    ///
    /// # Panics
    /// If the promise is broken.
    pub fn run(&self, harness: &dyn Harness) {
        if self.applies(&harness.capabilities()) {
            (self.test)(harness);
        } else {
            eprintln!("{}: not promised by this provider", self.name);
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// All cases, for tests that wrap them in something of their own.
pub fn cases() -> &'static [Case] {
    CASES
}

/// The list: each case by its function's name, with the capabilities that it needs.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($($head:tt)*) => { $crate::__conformance_expand! { [$($head)*]
        a_created_record_is_loaded_as_it_was
        an_empty_record_is_a_record
        every_key_is_kept_as_it_is
        every_value_is_kept_byte_for_byte
        a_record_as_large_as_the_limit_is_kept
        as_many_keys_as_the_limit_are_kept
        creating_inserts_only [shared_store]
        an_expired_record_does_not_take_its_id
        an_unknown_id_loads_nothing
        sessions_do_not_mix
        another_handle_sees_the_same_records
        the_clients_text_is_read_back
        hostile_texts_are_no_tokens
        a_damaged_text_opens_nothing
        nothing_prints_a_token

        a_save_merges_its_keys
        saves_by_one_token_merge [shared_store]
        a_save_without_keys_changes_no_value
        a_save_of_awkward_keys_and_values_is_exact
        a_save_moves_the_expiry_as_told
        a_save_moves_the_owner_as_told
        a_save_never_creates [shared_store]
        a_save_over_a_limit_changes_nothing [limits]
        an_expected_value_that_holds_lets_the_save_pass
        an_expected_value_that_does_not_hold_is_a_conflict
        expectations_compare_bytes
        other_keys_never_conflict [shared_store]

        a_record_lives_up_to_its_expiry_and_no_longer
        an_expired_record_is_gone_for_every_operation
        loading_never_writes
        an_expiry_beyond_all_calendars_is_kept
        a_touch_extends
        a_touch_never_shortens
        a_late_touch_changes_nothing [shared_store]

        a_rename_moves_everything
        the_old_id_is_dead_after_a_rename [revokes]
        a_taken_id_refuses_a_rename [shared_store]
        an_expired_record_does_not_refuse_a_rename
        a_rename_never_creates [shared_store]
        an_old_id_can_be_used_again [shared_store]
        destroying_is_final [revokes]
        destroying_is_idempotent
        destroying_ends_one_session_only
        a_destroyed_id_starts_from_nothing [shared_store]
        declared_limits_are_real

        count_knows_the_live_sessions [count]
        count_is_unsupported_or_right
        purging_removes_all_that_expired [purges]
        purging_leaves_the_living [purges]
        purging_goes_by_the_newest_expiry [purges]
        purging_comes_in_slices [purges]
        a_purged_id_can_be_created_again
        purging_an_empty_store_does_nothing

        racing_saves_of_different_keys_all_survive [shared_store]
        racing_increments_lose_none [shared_store]
        racing_creates_have_one_winner [shared_store]
        racing_renames_have_one_winner [shared_store revokes]
        racing_renames_to_one_id_have_one_winner [shared_store]
        a_save_that_races_a_destroy_brings_nothing_back [shared_store revokes]
        a_save_that_races_a_rename_is_whole_or_gone [shared_store revokes]
        a_touch_that_races_a_destroy_brings_nothing_back [shared_store revokes]
        a_rename_that_races_a_destroy_is_whole_or_gone [shared_store revokes]
        a_save_that_races_a_purge_is_whole_or_gone [shared_store purges]
        a_create_that_races_a_purge_stays [shared_store purges]
        a_crowd_leaves_a_store_that_adds_up [shared_store revokes count purges]

        any_sequence_of_operations_agrees_with_a_map [shared_store revokes]

        a_dropped_create_is_whole_or_nothing [shared_store]
        a_dropped_save_is_whole_or_nothing
        a_dropped_rename_is_whole_or_nothing [shared_store revokes]
        a_dropped_touch_or_destroy_is_whole_or_nothing [revokes]

        requests_that_set_different_keys_lose_nothing [shared_store]
        parallel_updates_lose_none [shared_store]
        a_request_slower_than_a_logout_brings_nothing_back [shared_store revokes]
        a_request_slower_than_a_login_is_gone [shared_store revokes]
        racing_regenerations_leave_one_session [shared_store revokes]
        of_logouts_at_once_one_wins [revokes]
        a_logout_does_not_miss_a_session_that_gets_a_new_id [revokes]
        a_taken_id_is_never_overwritten [shared_store]

        a_dropped_request_leaves_the_old_or_the_new [shared_store]
        a_dropped_login_leaves_one_session [shared_store revokes]
        a_dropped_first_visit_leaves_one_session_at_most [shared_store]
        a_failing_store_is_an_error_and_a_retry_succeeds
        a_failed_first_visit_gets_no_cookie
        a_failed_save_after_a_login_announces_nothing
        a_failed_update_counts_once_at_most [shared_store]
        a_failed_login_leaves_one_session [shared_store revokes]
        a_store_that_is_down_makes_nobody_a_stranger
        an_untouched_session_costs_nothing
    } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_expand {
    ([tests $attributes:tt $harness:expr] $($name:ident $([$($need:ident)+])?)*) => {
        $($crate::__conformance_test! { $attributes $harness, $name })*
    };
    ([list] $($name:ident $([$($need:ident)+])?)*) => {
        &[$(Case {
            name: stringify!($name),
            needs: |_can| true $($(&& _can.$need)+)?,
            test: $name,
        }),*]
    };
}

const CASES: &[Case] = crate::__conformance_cases! { list };
