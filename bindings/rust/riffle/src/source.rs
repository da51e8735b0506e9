// SPDX-License-Identifier: Apache-2.0
//! Where the bytes of a prepared kernel come from: a file, memory, or a reader.
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{
        raw::{c_int, c_void},
        unix::io::AsRawFd,
    },
    panic::{catch_unwind, AssertUnwindSafe},
    ptr, slice,
    sync::{Arc, Mutex},
};

use riffle_sys as sys;

use crate::error::{call, Error, Result};

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt: Send + Sync {
    /// How many there are.
    fn bytes(&self) -> u64;
    /// Fills `buffer` with the bytes from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A [`ReadAt`] of a reader that can seek.
pub struct SeekReader<R> {
    reader: Mutex<R>,
    bytes: u64,
}

impl<R: Read + Seek + Send> SeekReader<R> {
    /// Finds out how long the reader is.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let bytes = reader.seek(SeekFrom::End(0))?;
        Ok(SeekReader { reader: Mutex::new(reader), bytes })
    }
}

impl<R: Read + Seek + Send> ReadAt for SeekReader<R> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut reader = self.reader.lock().map_err(|_| io::ErrorKind::Other)?;
        reader.seek(SeekFrom::Start(offset))?;
        reader.read_exact(buffer)
    }
}

/// How a compressed kernel's frames are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Each frame is one LZ4 block.
    Lz4,
    /// Each frame is one Zstandard frame.
    Zstd,
}

type Decompress = dyn Fn(Compression, &[u8], &mut [u8]) -> io::Result<usize> + Send + Sync;

/// What the library's pointers lead to: each in an allocation of its own, so that a source can be moved.
#[allow(dead_code)] // kept alive, not read
enum Kept {
    File(File),
    Bytes(Arc<[u8]>, Box<sys::riffle_source_memory>),
    Reader(Box<Box<dyn ReadAt>>),
}

/// The bytes of a prepared kernel.
pub struct Source {
    raw: sys::riffle_source,
    _kept: Kept,
    decompress: Option<Box<Box<Decompress>>>,
}

// Safety: pointers lead to what the source itself owns, all of which is Send and Sync; the library only reads it.
unsafe impl Send for Source {}
unsafe impl Sync for Source {}

impl Source {
    /// A regular file, read by pread(2) at every load.
    pub fn from_file(file: File) -> Result<Self> {
        let mut raw = sys::riffle_source::default();
        // Safety: the descriptor is open, and stays so as long as the source lives.
        call(|error| unsafe { sys::riffle_source_from_fd(&mut raw, file.as_raw_fd(), error) })?;
        Ok(Source { raw, _kept: Kept::File(file), decompress: None })
    }

    /// The whole file's bytes in memory.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        let mut memory = Box::new(sys::riffle_source_memory::default());
        let mut raw = sys::riffle_source::default();
        // Safety: the bytes and what points to them stay where they are as long as the source lives.
        unsafe { sys::riffle_source_from_bytes(&mut raw, &mut *memory, bytes.as_ptr().cast(), bytes.len() as u64) };
        Source { raw, _kept: Kept::Bytes(bytes, memory), decompress: None }
    }

    /// Anything that can be read at an offset; [`SeekReader`] makes one of what can seek.
    pub fn from_reader(reader: impl ReadAt + 'static) -> Self {
        let reader: Box<Box<dyn ReadAt>> = Box::new(Box::new(reader));
        let raw = sys::riffle_source {
            read: Some(read_by_reader),
            opaque: (&*reader as *const Box<dyn ReadAt>) as *mut c_void,
            bytes: reader.bytes(),
            ..Default::default()
        };
        Source { raw, _kept: Kept::Reader(reader), decompress: None }
    }

    /// With a function that decompresses one frame, for kernels that are stored compressed; without one they are refused.
    /// It is given what is stored and a buffer as long as it decompresses to, and returns how many bytes it wrote.
    pub fn with_decompressor(
        mut self,
        decompress: impl Fn(Compression, &[u8], &mut [u8]) -> io::Result<usize> + Send + Sync + 'static,
    ) -> Self {
        let decompress: Box<Box<Decompress>> = Box::new(Box::new(decompress));
        self.raw.frame_opaque = (&*decompress as *const Box<Decompress>) as *mut c_void;
        self.raw.read_frame = Some(read_frame);
        self.decompress = Some(decompress);
        self
    }

    pub(crate) fn raw(&self) -> &sys::riffle_source {
        debug_assert_eq!(self.decompress.is_some(), self.raw.read_frame.is_some());
        &self.raw
    }
}

fn error_of(error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::new(sys::RIFFLE_ERR_CHANGED, 0, b"file\0", b"became shorter while it was read\0");
    }
    Error::new(sys::RIFFLE_ERR_IO, error.raw_os_error().unwrap_or(0), b"reader\0", b"failed\0")
}

/// Runs a callback's body: no panic leaves it.
///
/// # Safety
/// `error` is NULL or may be written.
unsafe fn guarded(error: *mut sys::riffle_error, body: impl FnOnce() -> Result<()>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(body));
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(e)) => e.put(error),
        Err(_) => Error::new(sys::RIFFLE_ERR_IO, 0, b"reader\0", b"panicked\0").put(error),
    }
}

/// The library's buffers may be uninitialised memory, which Rust code must not be shown.
///
/// # Safety
/// `buffer` may be written for `bytes` bytes, and nothing else uses it for `'a`.
unsafe fn initialised<'a>(buffer: *mut c_void, bytes: usize) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    ptr::write_bytes(buffer.cast::<u8>(), 0, bytes);
    slice::from_raw_parts_mut(buffer.cast(), bytes)
}

unsafe extern "C" fn read_by_reader(
    opaque: *mut c_void,
    offset: u64,
    buffer: *mut c_void,
    bytes: usize,
    error: *mut sys::riffle_error,
) -> c_int {
    let reader = &*(opaque as *const Box<dyn ReadAt>);
    guarded(error, || reader.read_exact_at(initialised(buffer, bytes), offset).map_err(|e| error_of(&e)))
}

fn bad_frame() -> Error {
    Error::new(sys::RIFFLE_ERR_FORMAT, 0, b"frame\0", b"does not decompress to its bytes\0")
}

unsafe extern "C" fn read_frame(
    source: *const sys::riffle_source,
    frame: *const sys::riffle_frame_read,
    buffer: *mut c_void,
    error: *mut sys::riffle_error,
) -> c_int {
    let (source, frame) = (&*source, &*frame);
    let decompress = &*(source.frame_opaque as *const Box<Decompress>);
    let compression = match frame.method {
        sys::RIFFLE_COMPRESSION_LZ4 => Compression::Lz4,
        sys::RIFFLE_COMPRESSION_ZSTD => Compression::Zstd,
        _ => return bad_frame().put(error),
    };
    guarded(error, || {
        let mut stored = vec![0u8; frame.stored_bytes as usize];
        let read = source.read.expect("a source can be read");
        call(|e| read(source.opaque, frame.file_offset, stored.as_mut_ptr().cast(), stored.len(), e))?;
        let wanted = initialised(buffer, frame.want as usize);
        let decompressed = if frame.want == frame.bytes {
            decompress(compression, &stored, wanted)
        } else {
            let mut whole = vec![0u8; frame.bytes as usize];
            let result = decompress(compression, &stored, &mut whole);
            let skip = frame.skip as usize;
            wanted.copy_from_slice(&whole[skip..skip + frame.want as usize]);
            result
        };
        match decompressed {
            Ok(bytes) if bytes == frame.bytes as usize => Ok(()),
            _ => Err(bad_frame()),
        }
    })
}
