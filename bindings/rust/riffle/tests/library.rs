// SPDX-License-Identifier: Apache-2.0
//! The bindings on a real kernel: RIFFLE_TEST_KERNEL is a prepared kernel that can be shuffled, RIFFLE_TEST_COMPRESSED the
//! same one stored as LZ4 (tests/e2e/test_rust.py makes both).
use std::{
    env,
    fs::{self, File},
    io::{self, Cursor},
    mem::{self, MaybeUninit},
    sync::Arc,
};

use riffle::{
    sys, Compression, Layout, LoadOptions, Machine, Memory, Mode, Plan, Randomise, ReadAt, SeekReader, Source, Status,
};

const MIB: usize = 1 << 20;
const GUEST: usize = 128 * MIB;

fn path(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: tests/e2e/test_rust.py sets it"))
}

fn kernel() -> File {
    File::open(path("RIFFLE_TEST_KERNEL")).unwrap()
}

fn plan() -> Plan {
    Plan::open(Source::from_file(kernel()).unwrap()).unwrap()
}

/// A layout, and the guest's memory after a load by it.
fn load(plan: &Plan, layout: &Layout, options: LoadOptions, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    let loaded = plan.load(layout, &mut memory, &options).unwrap();
    assert_eq!(loaded.physical_base(), layout.physical_base());
    assert_eq!(loaded.virtual_base(), layout.virtual_base());
    let slid = layout.slides().last().copied().unwrap_or(0);
    assert_eq!(loaded.end(), layout.physical_base() + plan.header().image_bytes + u64::from(slid));
    assert!((loaded.physical_base()..loaded.end()).contains(&loaded.entry()));
    drop(memory);
    bytes
}

fn draw(plan: &Plan, how: impl Into<Randomise>) -> Layout {
    let mut bytes = vec![0; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    plan.draw(&memory, how).unwrap()
}

#[test]
fn types_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Plan>();
    shared::<Source>();
    shared::<Layout>();
    shared::<riffle::Error>();
    shared::<Memory<'static>>();
}

#[test]
fn versions_agree() {
    assert_eq!(unsafe { sys::riffle_version() }, sys::RIFFLE_VERSION);
    assert_eq!(riffle::version().as_bytes(), &sys::RIFFLE_VERSION_STRING[..sys::RIFFLE_VERSION_STRING.len() - 1]);
    assert_eq!(riffle::version(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_source_gives_the_same_plan_and_load() {
    let bytes = fs::read(path("RIFFLE_TEST_KERNEL")).unwrap();
    assert!(Plan::is_prepared(&bytes[..8]) && !Plan::is_prepared(&bytes[..7]) && !Plan::is_prepared(&bytes[1..]));
    let by_file = plan();
    let layout = draw(&by_file, Mode::Fgkaslr);
    let loaded = load(&by_file, &layout, LoadOptions::default(), 0);
    let reader = SeekReader::new(Cursor::new(bytes.clone())).unwrap();
    for source in [Source::from_bytes(bytes), Source::from_reader(reader)] {
        let plan = Plan::open(source).unwrap();
        assert_eq!(plan.kernel_version(), by_file.kernel_version());
        assert!(plan.chunks() > 1000);
        assert!(load(&plan, &layout, LoadOptions { threads: 2, ..Default::default() }, 0) == loaded);
    }
    let base = Plan::open_base(Source::from_file(kernel()).unwrap()).unwrap();
    assert_eq!(base.chunks(), 0);
}

#[test]
fn threads_and_cleared_memory_give_the_same_bytes() {
    let plan = plan();
    for mode in [Mode::Kaslr, Mode::Fgkaslr] {
        let layout = draw(&plan, mode);
        let expected = load(&plan, &layout, LoadOptions::default(), 0);
        assert!(load(&plan, &layout, LoadOptions { threads: 5, ..Default::default() }, 0) == expected);
        let cleared = load(&plan, &layout, LoadOptions { clear: true, threads: 3, ..Default::default() }, 0x5a);
        let kernel = layout.physical_base() as usize..(layout.physical_base() + plan.header().image_bytes) as usize;
        assert!(cleared[kernel.clone()] == expected[kernel.clone()]);
        // and not a byte elsewhere
        assert!(cleared[..kernel.start].iter().chain(&cleared[kernel.end..]).all(|&b| b == 0x5a));
    }
}

#[test]
fn sections_slide_apart() {
    let plan = plan();
    assert!(plan.blocks() > 3 && plan.no_slides().is_empty());
    for mode in [Mode::Kaslr, Mode::Fgkaslr] {
        let layout = draw(&plan, Randomise { mode, slides: true });
        assert_eq!(layout.slides().len(), plan.blocks() as usize);
        assert_eq!(layout.slides()[0], 0);
        assert!(layout.slides().windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(layout.slides().last().map_or(false, |&slid| 0 < slid && slid <= plan.slides_most()));
        let bytes = load(&plan, &layout, LoadOptions::default(), 0);
        assert!(load(&plan, &layout, LoadOptions { threads: 3, ..Default::default() }, 0) == bytes);
        let other = draw(&plan, Randomise { mode, slides: true });
        assert_ne!(layout.slides(), other.slides());
    }
    // slots are those with room for the largest gaps
    let mut bytes = vec![0; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    let slid = plan.slots(&memory, Randomise { mode: Mode::Kaslr, slides: true }).unwrap();
    let plain = plan.slots(&memory, Mode::Kaslr).unwrap();
    assert!(slid.physical < plain.physical && slid.virtual_ < plain.virtual_);
    // refused, not drawn without
    let refused = plan.draw(&memory, Randomise { mode: Mode::Physical, slides: true }).unwrap_err();
    assert_eq!(refused.status(), Status::Argument);
    let base = Plan::open_base(Source::from_file(kernel()).unwrap()).unwrap();
    let refused = base.draw(&memory, Randomise { mode: Mode::Kaslr, slides: true }).unwrap_err();
    assert_eq!(refused.status(), Status::Unsupported);
    assert!(draw(&plan, Mode::Fgkaslr).slides().is_empty());
}

#[test]
fn one_plan_serves_guests_on_many_threads() {
    let plan = Arc::new(plan());
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let plan = plan.clone();
            std::thread::spawn(move || {
                let layout = draw(&plan, Mode::Fgkaslr);
                load(&plan, &layout, LoadOptions { threads: 2, ..Default::default() }, 0);
                layout.order().to_vec()
            })
        })
        .collect();
    let orders: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
}

#[test]
fn layouts_are_wiped_when_dropped() {
    let plan = plan();
    let mut kept = MaybeUninit::new(draw(&plan, Mode::Fgkaslr));
    unsafe {
        let at = kept.as_mut_ptr();
        let base = (*at).physical_base().to_ne_bytes();
        let bytes = |at: *const Layout| std::slice::from_raw_parts(at.cast::<u8>(), mem::size_of::<Layout>()).to_vec();
        let holds = |bytes: Vec<u8>| bytes.windows(8).any(|w| w == base);
        assert!(holds(bytes(at)));
        std::ptr::drop_in_place(at);
        assert!(!holds(bytes(at)));
    }
    assert_eq!(format!("{:?}", draw(&plan, Mode::Kaslr)), "Layout { .. }");
}

#[test]
fn randomness_may_be_the_callers() {
    let plan = plan();
    let mut bytes = vec![0; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    let same = |memory: &Memory<'_>| {
        let mut state = 7u64;
        plan.draw_from(memory, Mode::Fgkaslr, move |buffer| {
            for byte in buffer {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (state >> 56) as u8;
            }
            Ok(())
        })
        .unwrap()
    };
    let (one, two) = (same(&memory), same(&memory));
    assert_eq!((one.physical_base(), one.virtual_base()), (two.physical_base(), two.virtual_base()));
    assert!(one.order() == two.order());
    let failed = plan.draw_from(&memory, Mode::Kaslr, |_| Err(io::ErrorKind::Other.into()));
    assert_eq!(failed.unwrap_err().status(), Status::Random);
    let panicked = plan.draw_from(&memory, Mode::Kaslr, |_| panic!("no randomness"));
    assert_eq!(panicked.unwrap_err().status(), Status::Random);
}

/// Answers the first reads, then does something else.
struct Spoilt<F> {
    bytes: Vec<u8>,
    good_until: u64,
    then: F,
}

impl<F: Fn() -> io::Result<()> + Send + Sync> ReadAt for Spoilt<F> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset >= self.good_until {
            return (self.then)();
        }
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

fn spoilt(then: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> riffle::Error {
    let bytes = fs::read(path("RIFFLE_TEST_KERNEL")).unwrap();
    let good_until = plan().header().payload_offset;
    let plan = Plan::open(Source::from_reader(Spoilt { bytes, good_until, then })).unwrap();
    let layout = draw(&plan, Mode::Fgkaslr);
    let mut bytes = vec![0; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    plan.load(&layout, &mut memory, &LoadOptions { threads: 3, ..Default::default() }).unwrap_err()
}

#[test]
fn errors_and_panics_of_a_reader_are_errors() {
    let error = spoilt(|| Err(io::Error::from_raw_os_error(libc::EIO)));
    assert_eq!((error.status(), error.errno()), (Status::Io, Some(libc::EIO)));
    assert_eq!(error.to_string(), "reader: failed: Input/output error");
    assert_eq!(spoilt(|| Err(io::ErrorKind::UnexpectedEof.into())).status(), Status::Changed);
    let error = spoilt(|| panic!("in a reader"));
    assert_eq!((error.status(), error.to_string().as_str()), (Status::Io, "reader: panicked"));
}

/// LZ4's block format, all of it; false when the block is not one.
fn lz4(block: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut at, mut done) = (0, 0);
    let length = |nibble: u8, at: &mut usize| {
        let mut length = nibble as usize;
        while nibble == 15 {
            let more = *block.get(*at)?;
            *at += 1;
            length += more as usize;
            if more != 255 {
                break;
            }
        }
        Some(length)
    };
    while at < block.len() {
        let token = block[at];
        at += 1;
        let literals = length(token >> 4, &mut at)?;
        out.get_mut(done..done + literals)?.copy_from_slice(block.get(at..at + literals)?);
        (at, done) = (at + literals, done + literals);
        if at == block.len() {
            break;
        }
        let offset = *block.get(at)? as usize | (*block.get(at + 1)? as usize) << 8;
        at += 2;
        for _ in 0..length(token & 15, &mut at)? + 4 {
            *out.get_mut(done)? = *out.get(done.checked_sub(offset)?)?;
            done += 1;
        }
    }
    Some(done)
}

#[test]
fn compressed_kernels_are_decompressed_by_the_caller() {
    let compressed = || Source::from_file(File::open(path("RIFFLE_TEST_COMPRESSED")).unwrap()).unwrap();
    assert_eq!(Plan::open(compressed()).unwrap_err().status(), Status::Unsupported);
    let source = compressed().with_decompressor(|how, stored, out| {
        assert_eq!(how, Compression::Lz4);
        lz4(stored, out).ok_or_else(|| io::ErrorKind::InvalidData.into())
    });
    let (plain, plan) = (plan(), Plan::open(source).unwrap());
    let layout = draw(&plain, Mode::Fgkaslr);
    let options = LoadOptions { threads: 3, ..Default::default() };
    assert!(load(&plan, &layout, options, 0) == load(&plain, &layout, options, 0));
    // part of a frame
    let (mut one, mut other) = ([0; 1000], [0; 1000]);
    plan.read(12345, &mut one).unwrap();
    plain.read(12345, &mut other).unwrap();
    assert_eq!(one, other);
    // one that lies of its length
    let source = compressed().with_decompressor(|_, stored, out| Ok(lz4(stored, out).unwrap_or(0) - 1));
    assert_eq!(Plan::open(source).unwrap_err().status(), Status::Format);
}

#[test]
fn machines_are_written_and_checked() {
    let plan = plan();
    let mut bytes = vec![0; GUEST];
    let mut memory = Memory::new();
    memory.add(0, &mut bytes);
    let mut machine = Machine { vcpus: 1, command_line: "console=ttyS0".into(), ..Default::default() };
    let initrd = machine.place_initrd(&memory, Some(&plan), 5 * MIB as u64).unwrap();
    assert_eq!(initrd, (GUEST - 5 * MIB) as u64);
    machine.initrd = Some((initrd, 5 * MIB as u64));
    machine.reserve(&mut memory).unwrap();
    let layout = plan.draw(&memory, Mode::Kaslr).unwrap();
    assert!(layout.physical_base() + plan.header().image_bytes <= initrd);
    let loaded = plan.load(&layout, &mut memory, &LoadOptions::default()).unwrap();
    let registers = machine.write(&mut memory, &plan, &loaded).unwrap();
    assert_eq!((registers.rip, registers.rsi), (loaded.entry(), sys::RIFFLE_BOOT_ZERO_PAGE as u64));
    let header = riffle::setup_header(&plan, &loaded).unwrap();
    assert_eq!(header[0x211 - 0x1f1], 1 | loaded.loadflags());

    machine.flags = 0x80;
    let error = machine.write(&mut memory, &plan, &loaded).unwrap_err();
    assert_eq!((error.status(), error.field(), error.found()), (Status::Argument, "flags", Some(0x80)));
    machine.flags = 0;
    machine.command_line = "a\0b".into();
    assert_eq!(machine.write(&mut memory, &plan, &loaded).unwrap_err().field(), "command line");
    drop(memory);
    assert_eq!(&bytes[sys::RIFFLE_BOOT_CMDLINE as usize..][..14], b"console=ttyS0\0");
    assert_eq!(bytes[sys::RIFFLE_BOOT_ZERO_PAGE as usize + 0x1f1..][..16], header[..16]);
}

#[cfg(feature = "vm-memory")]
#[test]
fn what_is_written_is_marked_dirty() {
    use vm_memory::{
        bitmap::{AtomicBitmap, Bitmap},
        Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion,
    };

    let plan = plan();
    let ranges = [(GuestAddress(0), 64 * MIB), (GuestAddress(1 << 32), 64 * MIB)];
    let guest = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges).unwrap();
    let mut memory = Memory::from_guest_memory(&guest).unwrap();
    let machine = Machine { vcpus: 1, ..Default::default() };
    machine.reserve(&mut memory).unwrap();
    let layout = plan.draw(&memory, Mode::Fgkaslr).unwrap();
    let is_dirty = |address: u64| {
        let region = guest.find_region(GuestAddress(address)).unwrap();
        region.bitmap().dirty_at((address - region.start_addr().0) as usize)
    };
    let addresses = || ranges.iter().flat_map(|r| (r.0 .0..r.0 .0 + r.1 as u64).step_by(4096));
    assert!(!addresses().any(is_dirty));
    let loaded = plan.load(&layout, &mut memory, &LoadOptions { threads: 2, ..Default::default() }).unwrap();
    let kernel = loaded.physical_base()..loaded.end();
    assert!(addresses().all(|a| is_dirty(a) == kernel.contains(&a)));
    machine.write(&mut memory, &plan, &loaded).unwrap();
    assert!(addresses().all(|a| is_dirty(a) == (a < MIB as u64 || kernel.contains(&a))));

    // and it is the kernel that lies there
    let mut head = vec![0; 1 << 16];
    guest.read_slice(&mut head, GuestAddress(loaded.physical_base())).unwrap();
    assert!(head.iter().any(|&b| b != 0));
}
