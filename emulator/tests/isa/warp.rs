//! What lanes do together: shuffles, votes, matches, reductions and matrix moves, in full and in divergent warps.

use crate::harness::{download, gpu, upload};
use crate::values::Rng;
use kvick_emulator::exec::{Launch, Program, launch};
use kvick_emulator::gpu::Gpu;
use kvick_emulator::ptx;

/// 32-bit registers of a warp, by lane.
pub type Lanes = [u32; 32];

/// A kernel of one warp: operands `%a<i>` come from memory, results `%d<i>` go there; `%act` guards the instructions,
/// `%mask` holds the mask of the lanes for which it is true, `%lane` the lane.
pub fn kernel(instructions: &str, inputs: usize, outputs: usize) -> String {
    let line = |i: usize, text: &str| text.replace('#', &i.to_string()).replace('@', &(128 * i).to_string());
    let loads: String = (0..inputs).map(|i| line(i, "ld.global.u32 %a#, [%rd1+@];\n")).collect();
    let clears: String = (0..outputs).map(|i| line(i, "mov.u32 %d#, 0x5a5a5a5a;\n")).collect();
    let stores: String = (0..outputs).map(|i| line(i, "st.global.u32 [%rd0+@], %d#;\n")).collect();
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n\
         .visible .entry k(.param .u64 out, .param .u64 in, .param .u32 mask)\n{{\n\
         .reg .pred %act, %p<4>;\n.reg .b32 %r<8>, %a<16>, %d<16>, %mask, %lane;\n.reg .b64 %rd<8>, %x<8>;\n\
         .shared .align 16 .b8 tile[1024];\n\
         mov.u32 %lane, %laneid;\nld.param.u64 %rd0, [out];\nld.param.u64 %rd1, [in];\nld.param.u32 %mask, [mask];\n\
         mul.wide.u32 %rd2, %lane, 4;\nadd.u64 %rd0, %rd0, %rd2;\nadd.u64 %rd1, %rd1, %rd2;\n\
         shr.u32 %r0, %mask, %lane;\nand.b32 %r0, %r0, 1;\nsetp.ne.u32 %act, %r0, 0;\n\
         {loads}{clears}@!%act bra done;\n{instructions}\ndone:\n{stores}ret;\n}}\n"
    )
}

/// Runs such a kernel for one warp.
pub fn run(gpu: &Gpu, name: &str, text: &str, mask: u32, input: &[Lanes], outputs: usize) -> Vec<Lanes> {
    let module = ptx::parse(text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    let program = Program::load(&module, gpu.memory(), gpu.spec()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let out = upload(gpu, &vec![[0u32; 32]; outputs]);
    let source = upload(gpu, input);
    let mut params: Vec<u8> = [out, source].iter().flat_map(|a| a.to_le_bytes()).collect();
    params.extend(mask.to_le_bytes());
    let config = Launch { grid: [1; 3], block: [32, 1, 1], params, ..Launch::default() };
    let index = program.kernel("k").expect("kernel k");
    launch(&program, index, &config, gpu).unwrap_or_else(|fault| panic!("{name}, mask {mask:#x}: {}", fault.report));
    gpu.memory().free(source).expect("a live allocation");
    let words = download(gpu, out, outputs * 16);
    words.chunks(16).map(|c| std::array::from_fn(|l| (c[l / 2] >> (32 * (l % 2))) as u32)).collect()
}

/// A model: results of one lane, given the mask, all operands and the lane.
type Model = Box<dyn Fn(u32, &[Lanes], usize) -> Vec<u32>>;

/// One instruction of a warp.
struct Case {
    name: String,
    text: String,
    inputs: usize,
    outputs: usize,
    /// Only with all lanes.
    full: bool,
    /// Bits to keep of each operand.
    keep: Vec<u32>,
    model: Model,
}

impl Case {
    fn check(&self, gpu: &Gpu) {
        let mut rng = Rng::new(&self.name);
        let text = kernel(&self.text, self.inputs, self.outputs);
        for round in 0..12 {
            let mask = match round {
                _ if self.full => !0,
                0..3 => !0,
                3 => 1 << 13,
                4 => 0xffff_0000,
                _ => rng.next() as u32 | 1 << rng.below(32),
            };
            let mut input: Vec<Lanes> = Vec::new();
            for keep in &self.keep {
                // A bound that repeats makes values that match, and equal votes.
                let same = round % 3 == 1;
                let first = rng.next() as u32;
                input.push(std::array::from_fn(|_| if same { first } else { rng.next() as u32 } & keep));
            }
            let got = run(gpu, &self.name, &text, mask, &input, self.outputs);
            for lane in 0..32 {
                let want = match mask >> lane & 1 {
                    1 => (self.model)(mask, &input, lane),
                    _ => vec![0x5a5a_5a5a; self.outputs],
                };
                let got: Vec<u32> = got.iter().map(|d| d[lane]).collect();
                assert_eq!(got, want, "{} mask {mask:#x} lane {lane} round {round}", self.name);
            }
        }
    }
}

fn active(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |l| mask >> l & 1 == 1)
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    shuffles(&mut all);
    votes(&mut all);
    matches(&mut all);
    reductions(&mut all);
    matrices(&mut all);
    all
}

fn shuffles(all: &mut Vec<Case>) {
    for mode in ["up", "down", "bfly", "idx"] {
        for segment in [0u32, 0x10, 0x18, 0x1f] {
            let clamp = if mode == "up" { 0 } else { 0x1f };
            let c = segment << 8 | clamp;
            // A lane that would read an inactive one keeps its own value by reading itself.
            let source = move |lane: usize, b: u32| {
                let (lane, b) = (lane as i32, (b & 31) as i32);
                let segment = segment as i32;
                let max = (lane & segment) | (clamp as i32 & !segment);
                let j = match mode {
                    "up" => lane - b,
                    "down" => lane + b,
                    "bfly" => lane ^ b,
                    _ => (lane & segment) | (b & !segment & 31),
                };
                let inside = if mode == "up" { j >= max } else { j <= max };
                (if inside { j as usize } else { lane as usize }, inside)
            };
            all.push(Case {
                name: format!("shfl.sync.{mode}.b32 c={c:#x}"),
                text: format!("shfl.sync.{mode}.b32 %d0|%p0, %a0, %a1, {c:#x}, %mask;\nselp.u32 %d1, 1, 0, %p0;"),
                inputs: 2,
                outputs: 2,
                full: true,
                keep: vec![!0, 31],
                model: Box::new(move |_, a, lane| {
                    let (from, inside) = source(lane, a[1][lane]);
                    vec![a[0][from], inside.into()]
                }),
            });
        }
    }
    // Partial masks: each lane reads the first active one.
    all.push(Case {
        name: "shfl.sync.idx.b32 from the first lane of the mask".to_string(),
        text: "brev.b32 %r1, %mask;\nclz.b32 %r1, %r1;\nshfl.sync.idx.b32 %d0, %a0, %r1, 31, %mask;".to_string(),
        inputs: 1,
        outputs: 1,
        full: false,
        keep: vec![!0],
        model: Box::new(|mask, a, _| vec![a[0][mask.trailing_zeros() as usize]]),
    });
}

fn votes(all: &mut Vec<Case>) {
    let ballot = |mask: u32, a: &[Lanes]| active(mask).filter(|&l| a[0][l] & 1 == 1).fold(0u32, |b, l| b | 1 << l);
    let set = "and.b32 %r1, %a0, 1;\nsetp.ne.u32 %p0, %r1, 0;\n";
    for mode in ["all", "any", "uni"] {
        for not in ["", "!"] {
            all.push(Case {
                name: format!("vote.sync.{mode}.pred {not}"),
                text: format!("{set}vote.sync.{mode}.pred %p1, {not}%p0, %mask;\nselp.u32 %d0, 1, 0, %p1;"),
                inputs: 1,
                outputs: 1,
                full: false,
                keep: vec![!0],
                model: Box::new(move |mask, a, _| {
                    let b = if not.is_empty() { ballot(mask, a) } else { mask & !ballot(mask, a) };
                    vec![u32::from(match mode {
                        "all" => b == mask,
                        "any" => b != 0,
                        _ => b == mask || b == 0,
                    })]
                }),
            });
        }
    }
    all.push(Case {
        name: "vote.sync.ballot.b32".to_string(),
        text: format!("{set}vote.sync.ballot.b32 %d0, %p0, %mask;"),
        inputs: 1,
        outputs: 1,
        full: false,
        keep: vec![!0],
        model: Box::new(move |mask, a, _| vec![ballot(mask, a)]),
    });
    all.push(Case {
        name: "activemask.b32".to_string(),
        text: "activemask.b32 %d0;".to_string(),
        inputs: 1,
        outputs: 1,
        full: false,
        keep: vec![!0],
        model: Box::new(|mask, _, _| vec![mask]),
    });
    all.push(Case {
        name: "elect.sync".to_string(),
        text: "elect.sync %d0|%p0, %mask;\nselp.u32 %d1, 1, 0, %p0;".to_string(),
        inputs: 1,
        outputs: 2,
        full: false,
        keep: vec![!0],
        model: Box::new(|mask, _, lane| {
            let leader = mask.trailing_zeros();
            vec![leader, (leader as usize == lane).into()]
        }),
    });
}

fn matches(all: &mut Vec<Case>) {
    let equal = |mask: u32, a: &[Lanes], lane: usize| {
        active(mask).filter(|&l| a.iter().all(|a| a[l] == a[lane])).fold(0u32, |b, l| b | 1 << l)
    };
    let wide = "mov.b64 %x0, {%a0, %a1};\n";
    for (bits, inputs, setup, operand) in [(32, 1, "", "%a0"), (64, 2, wide, "%x0")] {
        all.push(Case {
            name: format!("match.any.sync.b{bits}"),
            text: format!("{setup}match.any.sync.b{bits} %d0, {operand}, %mask;"),
            inputs,
            outputs: 1,
            full: false,
            keep: vec![3; inputs],
            model: Box::new(move |mask, a, lane| vec![equal(mask, a, lane)]),
        });
        all.push(Case {
            name: format!("match.all.sync.b{bits}"),
            text: format!("{setup}match.all.sync.b{bits} %d0|%p0, {operand}, %mask;\nselp.u32 %d1, 1, 0, %p0;"),
            inputs,
            outputs: 2,
            full: false,
            keep: vec![3; inputs],
            model: Box::new(move |mask, a, lane| {
                let all = equal(mask, a, lane) == mask;
                vec![if all { mask } else { 0 }, all.into()]
            }),
        });
    }
}

fn reductions(all: &mut Vec<Case>) {
    let mut push = |op: &str, fold: fn(u32, u32) -> u32| {
        all.push(Case {
            name: format!("redux.sync.{op}"),
            text: format!("redux.sync.{op} %d0, %a0, %mask;"),
            inputs: 1,
            outputs: 1,
            full: false,
            keep: vec![!0],
            model: Box::new(move |mask, a, _| vec![active(mask).map(|l| a[0][l]).reduce(fold).unwrap_or(0)]),
        });
    };
    push("add.u32", u32::wrapping_add);
    push("add.s32", u32::wrapping_add);
    push("min.u32", |x, y| x.min(y));
    push("max.u32", |x, y| x.max(y));
    push("min.s32", |x, y| (x as i32).min(y as i32) as u32);
    push("max.s32", |x, y| (x as i32).max(y as i32) as u32);
    push("and.b32", |x, y| x & y);
    push("or.b32", |x, y| x | y);
    push("xor.b32", |x, y| x ^ y);
}

/// Element (row, column) of an 8x8 matrix of halves that a register holds.
fn element(register: &Lanes, row: usize, column: usize) -> u32 {
    register[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff
}

/// The words of lane `l` of the transposed matrix.
fn transposed(register: &Lanes, lane: usize) -> u32 {
    let (row, column) = (lane / 4, 2 * (lane % 4));
    element(register, column, row) | element(register, column + 1, row) << 16
}

fn matrices(all: &mut Vec<Case>) {
    all.push(Case {
        name: "movmatrix.sync.aligned.m8n8.trans.b16".to_string(),
        text: "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;".to_string(),
        inputs: 1,
        outputs: 1,
        full: true,
        keep: vec![!0],
        model: Box::new(|_, a, lane| vec![transposed(&a[0], lane)]),
    });
    let list = |prefix: &str, count: usize| (0..count).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(", ");
    // Four matrices of 128 bytes; the rows of matrix i are at the addresses of lanes 8i to 8i + 7.
    let fill: String = (0..4).map(|i| format!("st.shared.u32 [%r2+{}], %a{i};\n", 128 * i)).collect();
    let drain: String = (0..4).map(|i| format!("ld.shared.u32 %d{i}, [%r2+{}];\n", 128 * i)).collect();
    let address = "mov.u32 %r1, tile;\nshl.b32 %r3, %lane, 2;\nadd.u32 %r2, %r1, %r3;\nshl.b32 %r3, %lane, 4;\nadd.u32 %r3, %r1, %r3;\n";
    for count in [1, 2, 4] {
        for trans in [false, true] {
            let suffix = format!("x{count}{}", if trans { ".trans" } else { "" });
            let pick =
                move |a: &[Lanes], i: usize, lane: usize| if trans { transposed(&a[i], lane) } else { a[i][lane] };
            all.push(Case {
                name: format!("ldmatrix {suffix}"),
                text: format!(
                    "{address}{fill}bar.warp.sync -1;\nldmatrix.sync.aligned.m8n8.{suffix}.shared.b16 {{{}}}, [%r3];",
                    list("d", count)
                ),
                inputs: 4,
                outputs: count,
                full: true,
                keep: vec![!0; 4],
                model: Box::new(move |_, a, lane| (0..count).map(|i| pick(a, i, lane)).collect()),
            });
            all.push(Case {
                name: format!("stmatrix {suffix}"),
                text: format!(
                    "{address}{fill}bar.warp.sync -1;\nstmatrix.sync.aligned.m8n8.{suffix}.shared.b16 [%r3], {{{}}};\n\
                     bar.warp.sync -1;\n{drain}",
                    list("a", count)
                ),
                inputs: 4,
                outputs: 4,
                full: true,
                keep: vec![!0; 4],
                model: Box::new(move |_, a, lane| {
                    (0..4).map(|i| if i < count { pick(a, i, lane) } else { a[i][lane] }).collect()
                }),
            });
        }
    }
}

/// The kernels, for the coverage of the op table.
pub fn kernels() -> Vec<String> {
    cases().iter().map(|c| kernel(&c.text, c.inputs, c.outputs)).collect()
}

#[test]
fn lanes_together() {
    let gpu = gpu();
    cases().iter().for_each(|case| case.check(&gpu));
}
