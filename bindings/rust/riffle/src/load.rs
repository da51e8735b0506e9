// SPDX-License-Identifier: Apache-2.0
//! Brings a kernel into guest memory at its layout.
use std::{
    alloc, fmt,
    os::raw::{c_uint, c_void},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use riffle_sys as sys;

use crate::{
    error::{call, Error, Result},
    layout::Layout,
    memory::Memory,
    plan::Plan,
};

/// How a kernel is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Guest memory is not zero: clear what of the kernel is to be zero.
    pub clear: bool,
    /// Leave kallsyms and ORC as linked: wrong, and some milliseconds cheaper.
    pub lazy_tables: bool,
    /// Threads to load with; 0 and 1 load on the caller's alone.
    pub threads: usize,
}

/// What the monitor needs to know of a loaded kernel; wiped when it is dropped.
pub struct Loaded(sys::riffle_loaded);

impl Loaded {
    /// Guest-physical address to enter, in 64-bit mode.
    pub fn entry(&self) -> u64 {
        self.0.entry
    }

    /// Guest-physical address of the kernel's first byte.
    pub fn physical_base(&self) -> u64 {
        self.0.physical_base
    }

    /// Its virtual address.
    pub fn virtual_base(&self) -> u64 {
        self.0.virtual_base
    }

    /// The first guest-physical address after the kernel.
    pub fn end(&self) -> u64 {
        self.0.end
    }

    /// Bits to set in the zero page's loadflags.
    pub fn loadflags(&self) -> u8 {
        self.0.loadflags
    }

    pub(crate) fn raw(&self) -> &sys::riffle_loaded {
        &self.0
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Safety: plain data.
        unsafe { sys::riffle_wipe((&mut self.0 as *mut sys::riffle_loaded).cast(), std::mem::size_of_val(&self.0)) }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

/// Scratch memory of a shuffled load, aligned as it must be; it holds the layout, and is wiped.
struct Workspace {
    at: *mut u8,
    layout: alloc::Layout,
}

impl Workspace {
    fn new(bytes: usize) -> Result<Self> {
        let none = || Error::new(sys::RIFFLE_ERR_MEMORY, 0, b"workspace\0", b"cannot be held\0");
        let layout = alloc::Layout::from_size_align(bytes.max(1), 64).map_err(|_| none())?;
        // Safety: the size is not 0. The library writes before it reads.
        let at = unsafe { alloc::alloc(layout) };
        if at.is_null() {
            return Err(none());
        }
        Ok(Workspace { at, layout })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Safety: allocated with this layout.
        unsafe {
            sys::riffle_wipe(self.at.cast(), self.layout.size());
            alloc::dealloc(self.at, self.layout)
        }
    }
}

type Job = unsafe extern "C" fn(*mut c_void, c_uint);

struct Jobs {
    job: Job,
    argument: *mut c_void,
    jobs: u32,
    next: AtomicU32,
}

// Safety: the library's jobs may run on any threads at once (riffle/load.h).
unsafe impl Sync for Jobs {}

impl Jobs {
    fn work(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.jobs {
                return;
            }
            // Safety: each index once, with the argument that belongs to it.
            unsafe { (self.job)(self.argument, index) }
        }
    }
}

/// struct riffle_workers.run: `opaque` points to the number of threads.
unsafe extern "C" fn run(opaque: *mut c_void, job: Option<Job>, argument: *mut c_void, jobs: c_uint) {
    let threads = *opaque.cast::<usize>();
    let job = match job {
        Some(job) => job,
        None => return,
    };
    let work = Jobs { job, argument, jobs, next: AtomicU32::new(0) };
    thread::scope(|scope| {
        for _ in 1..threads {
            // where no thread can be had the others do its work
            if thread::Builder::new().spawn_scoped(scope, || work.work()).is_err() {
                break;
            }
        }
        work.work();
    });
}

impl Plan {
    /// Loads the kernel at its layout. Unless told to clear it, guest memory must be zero. After a failure it may hold part of
    /// a kernel, which must not be run.
    pub fn load(&self, layout: &Layout, memory: &mut Memory<'_>, options: &LoadOptions) -> Result<Loaded> {
        let mut threads = options.threads;
        let workers =
            sys::riffle_workers { run: Some(run), opaque: (&mut threads as *mut usize).cast(), ..Default::default() };
        let workers: *const _ = if options.threads > 1 { &workers } else { std::ptr::null() };
        let mut flags = if options.clear { sys::RIFFLE_LOAD_CLEAR } else { 0 };
        if options.lazy_tables && layout.is_shuffled() {
            flags |= sys::RIFFLE_LOAD_LAZY_TABLES;
        }
        let mut loaded = Loaded(Default::default());
        let (source, map) = (self.source().raw(), memory.raw());
        // Safety: the memory is writable, and everything is valid for the call.
        let result = if layout.is_shuffled() {
            let bytes = unsafe { sys::riffle_load_workspace(self.raw()) };
            let workspace = Workspace::new(bytes)?;
            call(|error| unsafe {
                sys::riffle_load_shuffled(
                    &mut loaded.0,
                    self.raw(),
                    source,
                    layout.raw(),
                    &map,
                    flags,
                    workers,
                    workspace.at.cast(),
                    bytes,
                    error,
                )
            })
        } else {
            call(|error| unsafe {
                sys::riffle_load(&mut loaded.0, self.raw(), source, layout.raw(), &map, flags, workers, error)
            })
        };
        let slid = layout.slides().last().copied().unwrap_or(0);
        memory.written(layout.physical_base(), self.header().image_bytes + u64::from(slid));
        result.map(|()| loaded)
    }
}
