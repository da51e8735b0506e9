// SPDX-License-Identifier: Apache-2.0
//! libriffle's C interface, as bindgen reads it from the public headers, which are its manual. The `riffle` crate makes
//! it safe.
#![allow(non_camel_case_types, non_upper_case_globals)]

mod bindings;

pub use bindings::*;

impl riffle_plan {
    /// RIFFLE_PLAN_INIT: what a plan is before it is opened.
    pub fn init() -> Self {
        riffle_plan { size: std::mem::size_of::<Self>(), ..Default::default() }
    }
}
