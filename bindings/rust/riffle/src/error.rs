// SPDX-License-Identifier: Apache-2.0
//! What the library says when it could not do what was asked.
use std::{ffi::CStr, fmt, os::raw::c_int, ptr};

use riffle_sys as sys;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The caller passed what no caller may pass.
    Argument,
    /// The input's bytes contradict its format.
    Format,
    /// Well formed, but not something this version handles.
    Unsupported,
    /// Does not fit into the guest's memory or its address window.
    Space,
    /// Bytes differ from what was stored when the file was made.
    Checksum,
    /// Somebody else may change the file.
    Trust,
    /// The file became shorter or other while it was read.
    Changed,
    /// A system call or a reader failed.
    Io,
    /// Out of host memory.
    Memory,
    /// No randomness could be had.
    Random,
    /// A status of a later library.
    Other(u32),
}

/// One error, as the library tells it: `field: problem (found F, expected E): system error`.
#[derive(Clone)]
pub struct Error(sys::riffle_error);

// Safety: the pointers in it are to static strings.
unsafe impl Send for Error {}
unsafe impl Sync for Error {}

/// The library's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(status: sys::riffle_status, errno: i32, field: &'static [u8], problem: &'static [u8]) -> Self {
        debug_assert!(field.ends_with(b"\0") && problem.ends_with(b"\0"));
        Error(sys::riffle_error {
            status,
            sys_errno: errno,
            field: field.as_ptr().cast(),
            problem: problem.as_ptr().cast(),
            ..Default::default()
        })
    }

    /// For a callback: puts the error where the library wants it and returns its status.
    ///
    /// # Safety
    /// `to` is NULL or may be written.
    pub(crate) unsafe fn put(self, to: *mut sys::riffle_error) -> c_int {
        if !to.is_null() {
            ptr::write(to, self.0);
        }
        self.0.status as c_int
    }

    /// What kind of failure it was.
    pub fn status(&self) -> Status {
        match self.0.status {
            sys::RIFFLE_ERR_ARGUMENT => Status::Argument,
            sys::RIFFLE_ERR_FORMAT => Status::Format,
            sys::RIFFLE_ERR_UNSUPPORTED => Status::Unsupported,
            sys::RIFFLE_ERR_SPACE => Status::Space,
            sys::RIFFLE_ERR_CHECKSUM => Status::Checksum,
            sys::RIFFLE_ERR_TRUST => Status::Trust,
            sys::RIFFLE_ERR_CHANGED => Status::Changed,
            sys::RIFFLE_ERR_IO => Status::Io,
            sys::RIFFLE_ERR_MEMORY => Status::Memory,
            sys::RIFFLE_ERR_RANDOM => Status::Random,
            other => Status::Other(other),
        }
    }

    /// What was looked at, in the words of the format or the headers.
    pub fn field(&self) -> &'static str {
        if self.0.field.is_null() {
            return "";
        }
        // Safety: a static string (riffle/error.h).
        unsafe { CStr::from_ptr(self.0.field) }.to_str().unwrap_or("")
    }

    /// The errno of the system call that failed.
    pub fn errno(&self) -> Option<i32> {
        (self.0.sys_errno != 0).then_some(self.0.sys_errno)
    }

    /// The value that was found, where one was.
    pub fn found(&self) -> Option<u64> {
        (self.0.has_found != 0).then_some(self.0.found)
    }

    /// The value or the limit that was expected, where there is one.
    pub fn expected(&self) -> Option<u64> {
        (self.0.has_expected != 0).then_some(self.0.expected)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 512];
        // Safety: the text ends with NUL within its bytes.
        let text = unsafe {
            sys::riffle_error_format(&self.0, text.as_mut_ptr().cast(), text.len());
            CStr::from_ptr(text.as_ptr().cast())
        };
        f.write_str(&text.to_string_lossy())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.status())
    }
}

impl std::error::Error for Error {}

/// Calls the library and makes a Result of what it says.
pub(crate) fn call(function: impl FnOnce(*mut sys::riffle_error) -> c_int) -> Result<()> {
    let mut error = sys::riffle_error::default();
    match function(&mut error) {
        0 => Ok(()),
        _ => Err(Error(error)),
    }
}
