//! The guide, in chapters: what the calls are for, and how they go together.
//!
//! | chapter | read it when |
//! |---|---|
//! | [`concepts`] | the words are new: layer, head, group, tree |
//! | [`first_pool`] | nothing is there yet |
//! | [`groups`] | several disks belong together |
//! | [`live_machines`] | another process runs the machine |
//! | [`deleting_and_space`] | old snapshots must go, and the disk is full |
//! | [`reverting`] | a machine must go back |
//! | [`bringing_disks_in`] | there are images already, from whomever |
//! | [`taking_data_out`] | a backup is to be made of it |
//! | [`errors`] | a call fails, and the program must decide what to do |
//! | [`formats`] | it must be known which images are read and written, here and by others |
//! | [`durability`] | it must be known what survives a power cut, and how that was tested |
//! | [`beyond_one_machine`] | several hosts can reach the pool's directory |
//! | [`security`] | the images come from strangers |
//! | [`async_hosts`] | the program has a runtime |
//! | [`features`] | more is wanted than is linked, or it must be seen what a pool does |
//! | [`testing_your_program`] | the program must be tested against disks that fail |
//! | [`the_api_carried_over`] | the calls of the cloud platform are known, and looked for here |

#[doc = include_str!("concepts.md")]
pub mod concepts {}

#[doc = include_str!("first_pool.md")]
pub mod first_pool {}

#[doc = include_str!("groups.md")]
pub mod groups {}

#[doc = include_str!("live_machines.md")]
pub mod live_machines {}

#[doc = include_str!("deleting_and_space.md")]
pub mod deleting_and_space {}

#[doc = include_str!("reverting.md")]
pub mod reverting {}

#[doc = include_str!("bringing_disks_in.md")]
pub mod bringing_disks_in {}

#[doc = include_str!("taking_data_out.md")]
pub mod taking_data_out {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("formats.md")]
pub mod formats {}

#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("beyond_one_machine.md")]
pub mod beyond_one_machine {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("async_hosts.md")]
pub mod async_hosts {}

#[doc = include_str!("features.md")]
pub mod features {}

#[doc = include_str!("testing_your_program.md")]
pub mod testing_your_program {}

#[doc = include_str!("the_api_carried_over.md")]
pub mod the_api_carried_over {}
