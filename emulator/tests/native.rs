//! Native code against the handlers: random kernels must leave the same memory and the same counts either way.
//!
//! A kernel loads its registers, goes through blocks of random instructions over them (a quarter of them guarded) that
//! random branches leave out and loops repeat, calls a function, and stores most registers: the others end in the midst.
mod probes;

use kvick_emulator::check::Checks;
use kvick_emulator::exec::FaultKind;
use kvick_emulator::gpu::{DeviceSpec, Gpu, KernelCounters};
use probes::{Arg, Device, Random};
use std::fmt::Write;

const WORDS: usize = 9;
const DOUBLES: usize = 6;
const PREDICATES: usize = 4;
const THREADS: usize = 96;

/// Instructions: `w`, `d`, `p` stand for registers, `i` for a 32-bit register or a small number, `n` for a number.
const INSTRUCTIONS: &[&str] = &[
    "mov.b32 w, w",
    "mov.b64 d, d",
    "add.s32 w, w, i",
    "sub.s32 w, w, i",
    "add.s64 d, d, d",
    "sub.s64 d, d, d",
    "mul.lo.s32 w, w, w",
    "mad.lo.s32 w, w, w, w",
    "mul.wide.u32 d, w, w",
    "mul.wide.s32 d, w, i",
    "mad.wide.u32 d, w, w, d",
    "mad.wide.s32 d, w, w, d",
    "mul.lo.s64 d, d, d",
    "mul.hi.u32 w, w, w",
    "div.u32 w, w, i",
    "rem.u32 w, w, w",
    "min.u32 w, w, w",
    "min.s32 w, w, w",
    "max.u32 w, w, w",
    "max.s32 w, w, w",
    "and.b32 w, w, i",
    "or.b32 w, w, w",
    "xor.b32 w, w, w",
    "not.b32 w, w",
    "and.b64 d, d, d",
    "or.b64 d, d, d",
    "xor.b64 d, d, d",
    "not.b64 d, d",
    "lop3.b32 w, w, w, w, n",
    "shl.b32 w, w, i",
    "shr.u32 w, w, i",
    "shr.s32 w, w, i",
    "shl.b64 d, d, i",
    "shr.u64 d, d, i",
    "shr.s64 d, d, i",
    "shf.r.wrap.b32 w, w, w, i",
    "cvt.u64.u32 d, w",
    "cvt.s64.s32 d, w",
    "cvt.u32.u64 w, d",
    "mov.b64 d, {w, w}",
    "mov.b64 {w, w}, d",
    "cvt.u32.u8 w, w",
    "cvt.s32.s8 w, w",
    "cvt.u32.u16 w, w",
    "cvt.s32.s16 w, w",
    "abs.s32 w, w",
    "neg.s32 w, w",
    "prmt.b32 w, w, w, n",
    "selp.b32 w, w, w, p",
    "selp.b64 d, d, d, p",
    "setp.eq.s32 p, w, w",
    "setp.ne.s32 p, w, i",
    "setp.lt.s32 p, w, w",
    "setp.le.s32 p, w, w",
    "setp.gt.s32 p, w, w",
    "setp.ge.s32 p, w, w",
    "setp.lt.u32 p, w, w",
    "setp.le.u32 p, w, w",
    "setp.gt.u32 p, w, w",
    "setp.ge.u32 p, w, w",
    "setp.eq.s64 p, d, d",
    "setp.lt.s64 p, d, d",
    "setp.ge.s64 p, d, d",
    "setp.gt.u64 p, d, d",
    "setp.le.u64 p, d, d",
    "setp.lt.f32 p, w, w",
    "setp.gtu.f32 p, w, w",
    "setp.neu.f32 p, w, w",
    "setp.nan.f32 p, w, w",
    "and.pred p, p, p",
    "or.pred p, p, p",
    "xor.pred p, p, p",
    "not.pred p, p",
    "mov.pred p, p",
    "add.f32 w, w, w",
    "sub.f32 w, w, w",
    "mul.f32 w, w, w",
    "div.rn.f32 w, w, w",
    "fma.rn.f32 w, w, w, w",
    "abs.f32 w, w",
    "neg.f32 w, w",
    "min.f32 w, w, w",
    "max.f32 w, w, w",
    "cvt.rn.f32.s32 w, w",
    "cvt.rn.f32.u32 w, w",
    "add.rn.f16x2 w, w, w",
    "sub.rn.f16x2 w, w, w",
    "mul.rn.f16x2 w, w, w",
    "fma.rn.f16x2 w, w, w, w",
    "fma.rn.bf16x2 w, w, w, w",
    "cvt.rn.f16x2.f32 w, w, w",
    "cvt.rn.bf16x2.f32 w, w, w",
    "ex2.approx.ftz.f32 w, w",
    "bfe.u32 w, w, i, i",
    "popc.b32 w, w",
];

/// The instruction with random registers and numbers.
fn filled(rng: &mut Random, instruction: &str) -> String {
    let mut out = String::new();
    let (opcode, operands) = instruction.split_once(' ').expect("operands");
    for c in operands.chars() {
        let mut below = |n: usize| rng.bits() as usize % n;
        let _ = match c {
            'w' => write!(out, "%w{}", below(WORDS)),
            'd' => write!(out, "%d{}", below(DOUBLES)),
            'p' => write!(out, "%p{}", below(PREDICATES)),
            'n' if opcode.starts_with("prmt") => write!(out, "{}", below(0x8000) & 0x7777),
            'n' => write!(out, "{}", below(256)),
            'i' if below(2) == 0 => write!(out, "{}", below(40)),
            'i' => write!(out, "%w{}", below(WORDS)),
            other => write!(out, "{other}"),
        };
    }
    format!("{opcode} {out};\n")
}

const CALL: &str = "{
.param .b32 argument;
.param .b32 back;
st.param.b32 [argument], %w0;
call.uni (back), f, (argument);
ld.param.b32 %w1, [back];
}
";

/// A kernel made from a seed.
fn kernel(rng: &mut Random) -> String {
    let mut s = String::from(".version 8.6\n.target sm_80\n.address_size 64\n");
    s += ".func (.param .b32 result) f(.param .b32 x)\n{\n.reg .b32 %u<2>;\nld.param.u32 %u0, [x];\n";
    (0..60).for_each(|i| writeln!(s, "mad.lo.s32 %u0, %u0, %u0, {i};").expect("a String takes all"));
    s += "st.param.b32 [result], %u0;\nret;\n}\n.visible .entry k(.param .u64 in, .param .u64 out)\n{\n";
    let _ = writeln!(s, ".reg .b32 %w<{WORDS}>;\n.reg .b64 %d<{DOUBLES}>;\n.reg .pred %p<{PREDICATES}>;");
    s += ".reg .b32 %t<4>;\n.reg .b64 %a<4>;\n.reg .pred %q;\n";
    s += "ld.param.u64 %a0, [in];\nld.param.u64 %a1, [out];\nmov.u32 %t0, %tid.x;\nmul.wide.u32 %a2, %t0, 8;\n";
    s += "add.s64 %a0, %a0, %a2;\nadd.s64 %a1, %a1, %a2;\n";
    let stride = 8 * THREADS;
    (0..WORDS).for_each(|i| writeln!(s, "ld.global.u32 %w{i}, [%a0+{}];", i * stride).expect("a String takes all"));
    (0..DOUBLES)
        .for_each(|i| writeln!(s, "ld.global.u64 %d{i}, [%a0+{}];", (WORDS + i) * stride).expect("a String takes all"));
    (0..PREDICATES).for_each(|i| writeln!(s, "setp.gt.s32 %p{i}, %w{i}, %w{};", i + 1).expect("a String takes all"));
    for block in 0..4 {
        let shape = rng.bits() % 4;
        let p = rng.bits() as usize % PREDICATES;
        match shape {
            0 => writeln!(s, "@%p{p} bra AFTER{block};").expect("a String takes all"),
            1 => writeln!(s, "mov.u32 %t1, 0;\nAGAIN{block}:").expect("a String takes all"),
            2 => s += CALL,
            _ => {}
        }
        for _ in 0..rng.bits() % 40 + 1 {
            let which = rng.bits() as usize % INSTRUCTIONS.len();
            if rng.bits().is_multiple_of(4) {
                let not = if rng.bits().is_multiple_of(2) { "!" } else { "" };
                let _ = write!(s, "@{not}%p{} ", rng.bits() as usize % PREDICATES);
            }
            s += &filled(rng, INSTRUCTIONS[which]);
        }
        match shape {
            0 => writeln!(s, "AFTER{block}:").expect("a String takes all"),
            1 => writeln!(s, "add.s32 %t1, %t1, 1;\nsetp.lt.u32 %q, %t1, 3;\n@%q bra AGAIN{block};")
                .expect("a String takes all"),
            _ => {}
        }
    }
    for i in (0..WORDS + DOUBLES).filter(|_| !rng.bits().is_multiple_of(3)) {
        let (ty, name, number) = if i < WORDS { ("u32", 'w', i) } else { ("u64", 'd', i - WORDS) };
        let _ = writeln!(s, "st.global.{ty} [%a1+{}], %{name}{number};", i * stride);
    }
    for i in 0..PREDICATES {
        let at = (WORDS + DOUBLES + i) * stride;
        let _ = writeln!(s, "selp.u32 %t2, 1, 0, %p{i};\nst.global.u32 [%a1+{at}], %t2;");
    }
    s + "ret;\n}\n"
}

/// Bits that are often numbers near 1, sometimes special ones.
fn word(rng: &mut Random) -> u32 {
    const SPECIAL: [u32; 12] = [
        0,
        1,
        !0,
        0x8000_0000,
        0x7f80_0000,
        0x7fc0_0001,
        0x7fff_ffff,
        0x7c00_fc00,
        0x7e01_8001,
        0x0000_ffff,
        31,
        0x0080_0000,
    ];
    let bits = rng.bits();
    match bits >> 60 {
        0..3 => SPECIAL[bits as usize % SPECIAL.len()],
        3..7 => bits as u32,
        7..10 => bits as u32 % 50,
        _ => bits as u32 & 0x83ff_83ff | 0x3800_3800,
    }
}

fn run(text: &str, input: &[u64], native: bool) -> (Vec<u64>, KernelCounters) {
    let mut device = Device::new(text, 1);
    device.gpu.set_native(native);
    let count = (WORDS + DOUBLES + PREDICATES) * THREADS;
    let (from, to) = (device.put(input), device.put(&vec![0u64; count]));
    let result = device.run("k", 1, THREADS as u32, &[Arg::Ptr(from), Arg::Ptr(to)]);
    result.unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    (device.get(to, count), device.counters("k"))
}

#[test]
fn random_kernels_leave_the_same_memory_and_counts() {
    for seed in 0..400 {
        let mut rng = Random(seed);
        let text = kernel(&mut rng);
        // Every second time, all lanes of a warp hold the same, so that they stay together.
        let mut input = vec![0; (WORDS + DOUBLES) * THREADS];
        for i in 0..input.len() {
            let alike = seed % 2 == 0 && i % 32 != 0 && !rng.bits().is_multiple_of(8);
            input[i] = if alike { input[i - 1] } else { u64::from(word(&mut rng)) << 32 | u64::from(word(&mut rng)) };
        }
        let (want, counts) = run(&text, &input, false);
        let (got, counted) = run(&text, &input, true);
        let differing = (0..want.len()).find(|&i| want[i] != got[i]);
        if let Some(i) = differing {
            let (register, thread) = (i / THREADS, i % THREADS);
            panic!("seed {seed}: register {register} of thread {thread}: {:#x}, not {:#x}\n{text}", got[i], want[i]);
        }
        assert_eq!(counted, counts, "seed {seed}\n{text}");
    }
}

/// Loads that poll, and a store outside any allocation, each within a straight run of operations.
const LEFT_IN_THE_MIDST: &str = "
.version 8.6
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b32 %r<5>;
    .reg .b64 %a<3>;
    .reg .pred %p<3>;
    ld.param.u64 %a0, [out];
    mov.u32 %r0, %tid.x;
    mul.wide.u32 %a1, %r0, 4;
    add.s64 %a0, %a0, %a1;
    setp.lt.u32 %p0, %r0, 5;
    mov.u32 %r1, 0;
AGAIN:
    add.s32 %r1, %r1, 1;
    ld.volatile.global.u32 %r2, [%a0];
    add.s32 %r3, %r1, %r2;
    @%p0 xor.b32 %r3, %r3, %r0;
    st.global.u32 [%a0], %r3;
    setp.lt.u32 %p1, %r1, 300;
    @%p1 bra AGAIN;
    add.s32 %r3, %r3, %r1;
    @%p0 st.global.u32 [%a0+0x40000000], %r3;
    mul.lo.s32 %r3, %r3, %r1;
    add.s32 %r3, %r3, %r1;
    st.global.u32 [%a0], %r3;
    ret;
}";

#[test]
fn what_follows_where_native_code_is_left_is_not_counted_twice() {
    const WARPS: u64 = 3;
    let [native, handlers] = [true, false].map(|native| {
        let mut device = Device::new(LEFT_IN_THE_MIDST, 1);
        device.gpu.set_native(native);
        let out = device.put(&[0u32; 32 * WARPS as usize]);
        let fault =
            device.run("k", 1, 32 * WARPS as u32, &[Arg::Ptr(out)]).expect_err("a store outside the allocation");
        (fault.kind, device.get::<u32>(out, 32 * WARPS as usize), device.counters("k"))
    });
    // The first warp's 6 operations, its rounds and what leads to the fault; warps take turns, so others had rounds too.
    assert!(native.2.warp_instructions > 6 + 300 * 7 + 2, "{}", native.2.warp_instructions);
    assert_eq!(native, handlers);
}

/// A long loop, after which lanes 0 to 31 either end or go on for ever, by a branch or by a table.
const ROUNDS: &str = "
.version 8.6
.target sm_80
.address_size 64
.visible .entry k(.param .u32 how)
{
    .reg .b32 %r<3>;
    .reg .pred %p<3>;
    ld.param.u32 %r0, [how];
    mov.u32 %r1, 0;
AGAIN:
    add.s32 %r1, %r1, 1;
    setp.lt.u32 %p0, %r1, 40000;
    @%p0 bra AGAIN;
    setp.eq.u32 %p1, %r0, 0;
    @%p1 bra END;
    setp.eq.u32 %p1, %r0, 1;
    @!%p1 bra TABLE;
BRANCH:
    add.s32 %r1, %r1, 1;
    bra.uni BRANCH;
TABLE:
    add.s32 %r1, %r1, 1;
    mov.u32 %r2, 0;
$targets: .branchtargets TABLE, END;
    brx.idx %r2, $targets;
END:
    ret;
}";

#[test]
fn long_loops_take_turns_and_endless_ones_use_up_their_budget() {
    let run = |how: i32, native: bool| {
        let mut device = Device::new(ROUNDS, 1);
        device.gpu = Gpu::with_checks(DeviceSpec::A100, 1, 1 << 20, Checks::default(), Some(1_000_000)).expect("a GPU");
        device.gpu.set_native(native);
        let result = device.run("k", 1, 64, &[Arg::Int(how)]);
        (result.map_err(|fault| fault.kind), device.counters("k"))
    };
    for (how, end) in [(0, Ok(())), (1, Err(FaultKind::Deadlock)), (2, Err(FaultKind::Deadlock))] {
        let (native, handlers) = (run(how, true), run(how, false));
        assert_eq!(native.0, end, "{how}");
        assert_eq!(native, handlers, "{how}");
    }
}
