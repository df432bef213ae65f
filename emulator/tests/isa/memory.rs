//! Loads and stores of every type, width, state space and address pattern, under full and partial masks.
//!
//! Each lane owns 64 bytes of a 2048-byte tile (global, shared, or its own local memory); its access goes to an offset
//! that the test gives.

use crate::harness::{download, gpu, upload};
use crate::values::Rng;
use kvick_emulator::exec::{Launch, Program, launch};
use kvick_emulator::gpu::Gpu;
use kvick_emulator::ptx;

/// Bytes of the tile, and of the part that a lane owns.
const TILE: usize = 2048;
const OWN: usize = 64;

/// An access form.
#[derive(Clone)]
struct Form {
    store: bool,
    /// `global`, `shared`, `local`, or empty for a generic address of global, shared or local memory.
    space: &'static str,
    /// Where the address points.
    memory: &'static str,
    /// Modifiers before the vector and type: `.volatile`, `.nc`, ...
    modifiers: &'static str,
    count: usize,
    ty: &'static str,
    /// Width of the registers.
    register: u32,
}

impl Form {
    fn element(&self) -> usize {
        self.ty[1..].parse::<usize>().expect("a width") / 8
    }

    fn bytes(&self) -> usize {
        self.element() * self.count
    }

    fn name(&self) -> String {
        let op = if self.store { "st" } else { "ld" };
        let space = if self.space.is_empty() { String::new() } else { format!(".{}", self.space) };
        let vector = if self.count > 1 { format!(".v{}", self.count) } else { String::new() };
        // `.volatile`, `.relaxed` and so on come before the state space, cache operators behind it.
        let early = ["volatile", "relaxed", "acquire", "release"].iter().any(|m| self.modifiers.contains(m));
        let (before, behind) = if early { (self.modifiers, "") } else { ("", self.modifiers) };
        format!("{op}{before}{space}{behind}{vector}.{}", self.ty)
    }

    /// The kernel: `out` receives four words of 8 bytes a lane (loads) or the tile (stores).
    fn text(&self) -> String {
        let copy = |to: &str, from: &str| -> String {
            (0..OWN / 8)
                .map(|i| format!("ld.{from}.u64 %rd7, [%from+{0}];\nst.{to}.u64 [%to+{0}], %rd7;\n", 8 * i))
                .collect()
        };
        // The tile's place: global memory itself, or a copy of it.
        let (to, wide) = match self.memory {
            "shared" => ("mov.u64 %base, tile;\nadd.u64 %to, %base, %own;\n", "shared"),
            "local" => ("mov.u64 %base, mine;\nmov.u64 %to, %base;\n", "local"),
            _ => ("mov.u64 %base, %in;\nadd.u64 %to, %base, %own;\n", "global"),
        };
        let fill = if wide == "global" {
            String::new()
        } else {
            format!("add.u64 %from, %in, %own;\n{}", copy(wide, "global"))
        };
        let generic = if self.space.is_empty() && wide != "global" {
            format!("cvta.{wide}.u64 %base, %base;\n")
        } else {
            String::new()
        };
        let registers: Vec<String> = (0..self.count).map(|i| format!("%v{i}")).collect();
        let list = if self.count > 1 { format!("{{{}}}", registers.join(", ")) } else { registers[0].clone() };
        let access = if self.store {
            let gets: String = (0..self.count)
                .map(|i| format!("ld.global.u64 %rd7, [%words+{}];\ncvt.u{1}.u64 %v{i}, %rd7;\n", 8 * i, self.register))
                .collect();
            let dump = match wide {
                "global" => String::new(),
                _ => format!("bar.sync 0;\nadd.u64 %from, %to, 0;\nadd.u64 %to, %in, %own;\n{}", copy("global", wide)),
            };
            format!("{gets}bar.sync 0;\n@%act {} [%at], {list};\n{dump}", self.name())
        } else {
            let puts: String = (0..self.count)
                .map(|i| format!("cvt.u64.u{1} %rd7, %v{i};\nst.global.u64 [%words+{}], %rd7;\n", 8 * i, self.register))
                .collect();
            let clears: String =
                (0..self.count).map(|i| format!("cvt.u{}.u64 %v{i}, 0x5a;\n", self.register)).collect();
            format!("{clears}bar.sync 0;\n@%act {} {list}, [%at];\n{puts}", self.name())
        };
        format!(
            ".version 8.6\n.target sm_90a\n.address_size 64\n\
             .visible .entry k(.param .u64 in, .param .u64 words, .param .u64 offsets, .param .u32 mask)\n{{\n\
             .reg .pred %act;\n.reg .b32 %r<8>;\n.reg .b64 %rd<8>, %in, %words, %own, %base, %to, %from, %at;\n\
             .reg .b{} %v<4>;\n.shared .align 16 .b8 tile[{TILE}];\n.local .align 16 .b8 mine[{OWN}];\n\
             ld.param.u64 %in, [in];\nld.param.u64 %words, [words];\nld.param.u64 %rd0, [offsets];\nld.param.u32 %r0, [mask];\n\
             mov.u32 %r1, %laneid;\nshr.u32 %r0, %r0, %r1;\nand.b32 %r0, %r0, 1;\nsetp.ne.u32 %act, %r0, 0;\n\
             mul.wide.u32 %own, %r1, {OWN};\nmul.wide.u32 %rd1, %r1, 32;\nadd.u64 %words, %words, %rd1;\n\
             mul.wide.u32 %rd1, %r1, 8;\nadd.u64 %rd0, %rd0, %rd1;\nld.global.u64 %rd2, [%rd0];\n\
             {to}{fill}{generic}add.u64 %at, %base, %rd2;\n{access}ret;\n}}\n",
            self.register
        )
    }

    /// Bits of a loaded element as its register shows them.
    fn loaded(&self, bytes: &[u8]) -> u64 {
        let raw = bytes.iter().rev().fold(0u64, |x, &b| x << 8 | u64::from(b));
        let unused = 64 - 8 * bytes.len() as u32;
        let wide = if self.ty.starts_with('s') { ((raw << unused) as i64 >> unused) as u64 } else { raw };
        if self.register == 64 { wide } else { wide & ((1 << self.register) - 1) }
    }
}

fn forms() -> Vec<Form> {
    let mut all = Vec::new();
    let types = [
        ("u8", 16),
        ("s8", 32),
        ("u8", 32),
        ("s8", 16),
        ("b16", 16),
        ("u16", 32),
        ("s16", 32),
        ("b32", 32),
        ("s32", 64),
        ("u64", 64),
    ];
    for (space, memory) in
        [("global", "global"), ("shared", "shared"), ("local", "local"), ("", "global"), ("", "shared"), ("", "local")]
    {
        for (ty, register) in types {
            for count in [1, 2, 4] {
                for store in [false, true] {
                    let form = Form { store, space, memory, modifiers: "", count, ty, register };
                    if form.bytes() <= 16 {
                        all.push(form);
                    }
                }
            }
        }
    }
    let plain =
        Form { store: false, space: "global", memory: "global", modifiers: "", count: 1, ty: "b32", register: 32 };
    for modifiers in [
        ".nc",
        ".nc.L1::no_allocate",
        ".ca",
        ".cg",
        ".cs",
        ".lu",
        ".cv",
        ".L2::128B",
        ".volatile",
        ".relaxed.gpu",
        ".acquire.gpu",
        ".acquire.sys",
    ] {
        all.push(Form { modifiers, ..plain.clone() });
    }
    all.push(Form { modifiers: ".nc.L1::no_allocate.L2::256B", count: 4, ..plain.clone() });
    for modifiers in [".wb", ".cg", ".cs", ".wt", ".volatile", ".relaxed.gpu", ".release.gpu", ".release.sys"] {
        all.push(Form { store: true, modifiers, ..plain.clone() });
    }
    all
}

/// Offsets by lane: side by side, backwards, all at one place (loads only), far apart, in random order.
fn offsets(form: &Form, pattern: usize, rng: &mut Rng) -> [u64; 32] {
    let size = form.bytes();
    if form.memory == "local" {
        return std::array::from_fn(|_| (rng.below(OWN / size) * size) as u64);
    }
    let mut order: [usize; 32] = std::array::from_fn(|l| l);
    match pattern {
        1 => order.reverse(),
        2 if !form.store => order = [5; 32],
        3 => order = std::array::from_fn(|l| l * (OWN / size)),
        4 => (1..32).rev().for_each(|i| order.swap(i, rng.below(i + 1))),
        _ => {}
    }
    order.map(|slot| (slot * size) as u64)
}

fn check(gpu: &Gpu, form: &Form) {
    let (name, text) = (format!("{} of {} memory", form.name(), form.memory), form.text());
    let module = ptx::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    let program = Program::load(&module, gpu.memory(), gpu.spec()).unwrap_or_else(|e| panic!("{name}: {e:?}\n{text}"));
    let mut rng = Rng::new(&name);
    for pattern in 0..5 {
        for mask in [!0, 0x8001_0ff0] {
            let mut tile: Vec<u8> = (0..TILE).map(|_| rng.next() as u8).collect();
            let words: Vec<u64> = (0..128).map(|_| if form.store { rng.next() } else { 0 }).collect();
            let offsets = offsets(form, pattern, &mut rng);
            let buffers = [upload(gpu, &tile), upload(gpu, &words), upload(gpu, &offsets)];
            let mut params: Vec<u8> = buffers.iter().flat_map(|a| a.to_le_bytes()).collect();
            params.extend(u32::to_le_bytes(mask));
            let config = Launch { grid: [1; 3], block: [32, 1, 1], params, ..Launch::default() };
            let index = program.kernel("k").expect("kernel k");
            launch(&program, index, &config, gpu).unwrap_or_else(|f| panic!("{name}, pattern {pattern}: {}", f.report));
            let got_tile: Vec<u8> =
                download(gpu, buffers[0], TILE / 8).into_iter().flat_map(u64::to_le_bytes).collect();
            let got_words = download(gpu, buffers[1], words.len());
            gpu.memory().free(buffers[2]).expect("a live allocation");
            for lane in 0..32 {
                let start = offsets[lane] as usize + if form.memory == "local" { OWN * lane } else { 0 };
                for i in 0..form.count {
                    let place = start + i * form.element()..start + (i + 1) * form.element();
                    let active = mask >> lane & 1 == 1;
                    if form.store && active {
                        tile[place].copy_from_slice(&words[4 * lane + i].to_le_bytes()[..form.element()]);
                    } else if !form.store {
                        let want = if active { form.loaded(&tile[place]) } else { 0x5a };
                        assert_eq!(
                            got_words[4 * lane + i],
                            want,
                            "{name} pattern {pattern} mask {mask:#x} lane {lane} element {i}"
                        );
                    }
                }
            }
            assert!(got_tile == tile, "{name} pattern {pattern} mask {mask:#x}: memory differs");
        }
    }
}

/// The kernels, for the coverage of the op table.
pub fn kernels() -> Vec<String> {
    forms().iter().map(Form::text).collect()
}

#[test]
fn loads_and_stores() {
    let gpu = gpu();
    forms().iter().for_each(|form| check(&gpu, form));
}
