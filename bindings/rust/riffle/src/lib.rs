// SPDX-License-Identifier: Apache-2.0
//! Loads Linux kernels into guest memory, their layout randomised: libriffle for monitors written in Rust.
//!
//! A boot is five steps: a [`Plan`] is opened from a [`Source`], once; a [`Machine`] says what the guest will find;
//! [`Plan::draw`] draws a [`Layout`]; [`Plan::load`] brings the kernel into guest [`Memory`]; and [`Machine::write`] writes
//! the boot tables and tells the registers. `examples/vm-memory-monitor.rs` is a whole monitor.
//!
//! A layout is the guest's secret: none of these types prints it, and [`Layout`] and [`Loaded`] are wiped when dropped.
#![warn(missing_docs)]

mod boot;
mod error;
mod layout;
mod load;
mod memory;
mod plan;
mod source;

pub use boot::{setup_header, Device, Machine, Registers};
pub use error::{Error, Result, Status};
pub use layout::{Layout, Mode, Randomise, Slots};
pub use load::{LoadOptions, Loaded};
pub use memory::Memory;
pub use plan::Plan;
pub use riffle_sys as sys;
pub use source::{Compression, ReadAt, SeekReader, Source};

/// The version of the library that is linked.
pub fn version() -> &'static str {
    // Safety: a static string, ASCII.
    unsafe { std::ffi::CStr::from_ptr(sys::riffle_version_string()) }.to_str().unwrap_or("")
}
