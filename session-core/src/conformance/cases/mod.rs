//! The cases: each a promise, and the test of it.

mod cancellation;
mod expiry;
mod faults;
mod lifecycle;
mod model;
mod network;
mod owners;
mod purging;
mod races;
mod records;
mod requests;
mod saves;
mod threads;
mod tokens;
mod visits;

use super::{Capabilities, Harness};

pub use cancellation::*;
pub use expiry::*;
pub use faults::*;
pub use lifecycle::*;
pub use model::*;
pub use network::*;
pub use owners::*;
pub use purging::*;
pub use races::*;
pub use records::*;
pub use requests::*;
pub use saves::*;
pub use threads::*;
pub use tokens::*;
pub use visits::*;

/// A promise of the contract, and its test.
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    needs: fn(&Capabilities) -> bool,
    test: fn(&dyn Harness),
    /// The path of the test.
    path: fn() -> &'static str,
}

impl Case {
    /// Returns the case of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn named(name: &str) -> Self {
        let found = cases().iter().find(|case| case.name == name);
        *found.unwrap_or_else(|| panic!("no case is named {name}"))
    }

    /// Returns the name of the case.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether a provider of these capabilities makes the promise.
    pub fn applies(&self, capabilities: &Capabilities) -> bool {
        (self.needs)(capabilities)
    }

    /// Tests the promise, if the provider makes it.
    ///
    /// # Panics
    /// If the promise is broken.
    pub fn run(&self, harness: &dyn Harness) {
        if self.applies(&harness.capabilities()) {
            let _told = Told(*self);
            (self.test)(harness);
        } else {
            eprintln!("{}: not promised by this provider", self.name);
        }
    }
}

/// Prints where the promise is documented, if the case fails.
struct Told(Case);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the promise is the documentation of {}", (self.0.path)());
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Returns all cases, for tests that run them in another way than [`conformance_tests!`](crate::conformance_tests).
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
        every_owner_and_label_is_kept_as_it_is
        the_last_use_is_kept_to_the_second
        a_record_as_large_as_the_limit_is_kept
        as_many_keys_as_the_limit_are_kept
        creating_inserts_only [notices_taken_keys]
        an_expired_record_does_not_take_its_key
        an_unknown_key_loads_nothing
        sessions_do_not_mix
        another_handle_sees_the_same_records
        a_damaged_record_is_unreadable
        a_damaged_record_is_in_nobodys_way
        the_clients_text_is_read_back
        hostile_texts_are_no_tokens
        a_damaged_text_opens_nothing
        nothing_prints_a_token
        a_record_has_no_secret [hides_secrets]

        a_save_merges_its_keys
        saves_by_one_token_merge [merges]
        a_save_without_keys_changes_no_value
        a_save_of_awkward_keys_and_values_is_exact
        a_save_moves_the_expiry_as_told
        a_save_moves_the_last_use_forward
        a_save_moves_login_and_cookie_as_told
        a_save_that_replaces_leaves_its_own_keys_only
        a_save_never_creates [merges]
        a_save_over_a_limit_changes_nothing [limits]
        overwriting_adds_nothing_to_the_size
        an_owner_takes_no_room
        an_expected_value_that_holds_lets_the_save_pass
        an_expected_value_that_does_not_hold_is_a_conflict
        several_expectations_hold_together
        expectations_compare_bytes
        other_keys_never_conflict [merges]

        a_record_lives_up_to_its_expiry_and_no_longer
        an_expired_record_is_gone_for_every_operation
        loading_never_writes
        an_expiry_beyond_all_calendars_is_kept
        a_lifetime_of_any_length_holds
        a_touch_extends
        a_touch_never_shortens
        a_late_touch_changes_nothing [merges]
        a_touch_moves_the_last_use_forward
        a_touch_goes_by_the_key [by_key checks_holder]
        a_create_sets_the_stores_own_expiry
        a_touch_moves_the_stores_own_expiry
        a_save_moves_the_stores_own_expiry

        a_new_secret_opens_the_same_record
        an_old_secret_is_dead [checks_holder revokes]
        a_wrong_secret_changes_nothing [checks_holder notices_taken_keys]
        a_login_is_stored_in_one_step
        a_save_with_a_new_secret_can_be_repeated [merges checks_holder]
        a_refused_new_secret_leaves_the_old_one
        destroying_is_final [revokes]
        destroying_goes_by_the_key [by_key revokes]
        destroying_is_idempotent
        destroying_ends_one_session_only
        a_destroyed_key_starts_from_nothing [merges]
        declared_limits_are_real

        list_is_unsupported_or_declared
        a_list_shows_what_is_stored_of_each_session [lists]
        a_list_comes_in_pages_in_the_order_of_the_keys [lists]
        a_page_of_any_limit_is_bounded [lists]
        a_page_begins_behind_a_session_that_is_gone [lists]
        what_ended_is_not_listed [lists]
        a_session_is_in_its_last_owners_list [lists]
        no_owner_is_taken_for_another [lists]
        an_owner_of_any_allowed_length_is_listed [lists]
        an_index_of_owners_does_not_grow [lists]
        a_list_beside_changes_has_each_living_session_once [lists]
        a_login_that_races_anything_is_in_the_right_list [lists]
        a_crowd_leaves_lists_that_add_up [lists]

        count_knows_the_live_sessions [count]
        count_is_unsupported_or_right
        purging_removes_all_that_expired [purges]
        purging_leaves_the_living [purges]
        purging_goes_by_the_newest_expiry [purges]
        purging_comes_in_slices [purges]
        a_purged_key_can_be_created_again
        purging_an_empty_store_does_nothing

        racing_saves_of_different_keys_all_survive [merges]
        racing_increments_lose_none [merges]
        racing_creates_have_one_winner [notices_taken_keys]
        racing_new_secrets_have_one_winner [checks_holder]
        a_save_that_races_a_destroy_brings_nothing_back [merges revokes]
        a_save_that_races_a_login_is_whole_or_gone [merges revokes]
        a_touch_that_races_a_destroy_brings_nothing_back [merges revokes]
        a_new_secret_that_races_a_destroy_brings_nothing_back [merges revokes]
        a_save_that_races_a_purge_is_whole_or_gone [merges purges]
        a_create_that_races_a_purge_stays [merges purges]
        a_crowd_leaves_a_store_that_adds_up [merges revokes count purges]

        a_server_that_cannot_be_reached_is_unavailable
        a_write_that_is_cut_off_from_the_server_is_not_done
        a_write_whose_answer_is_lost_is_never_called_undone
        a_load_that_is_cut_never_misses_the_record
        a_server_that_stalls_is_an_error_in_time
        an_operation_that_waits_lets_others_run

        any_sequence_of_operations_agrees_with_a_map [merges revokes]

        a_dropped_create_is_whole_or_nothing [merges]
        a_dropped_save_is_whole_or_nothing
        a_dropped_new_secret_is_whole_or_nothing [merges revokes]
        a_dropped_touch_or_destroy_is_whole_or_nothing [revokes]

        requests_that_set_different_keys_lose_nothing [merges]
        parallel_updates_lose_none [merges]
        a_request_slower_than_a_logout_brings_nothing_back [merges revokes]
        a_request_slower_than_a_login_leaves_the_login_alone [merges revokes]
        racing_regenerations_leave_one_session [merges revokes]
        logins_at_once_all_succeed [merges revokes]
        logouts_at_once_all_succeed [revokes]
        a_logout_does_not_miss_a_session_that_gets_a_new_id [revokes]
        a_wrong_secret_is_a_stranger [checks_holder]
        an_id_of_another_namespace_is_a_strangers [namespaces]
        a_taken_key_is_never_overwritten [notices_taken_keys]
        a_late_touch_undoes_no_shortened_lifetime [by_key stable_token]
        a_remembered_session_outlives_the_others
        a_cookie_is_announced_again_in_each_third [checks_holder stable_token]

        a_visit_with_logins_ends_logged_in [merges checks_holder by_key revokes]
        a_visit_of_any_kind_ends_one_login_away [merges checks_holder by_key revokes]
        a_login_that_loses_to_a_logout_starts_empty [merges checks_holder by_key revokes]
        a_login_after_a_lost_response_succeeds_at_once [checks_holder revokes]
        a_login_as_another_owner_starts_empty [merges]

        a_dropped_request_leaves_the_old_or_the_new [merges]
        a_dropped_login_is_whole_or_nothing [merges revokes]
        a_dropped_first_visit_leaves_one_session_at_most [merges]
        a_failing_store_is_an_error_and_a_retry_succeeds
        a_failed_first_visit_gets_no_cookie
        a_failed_login_leaves_the_old_id_good [merges]
        a_login_of_an_unknown_outcome_can_be_tried_again [checks_holder revokes]
        a_failed_update_counts_once_at_most [merges]
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
            path: || std::any::type_name_of_val(&$name),
        }),*]
    };
}

const CASES: &[Case] = crate::__conformance_cases! { list };
