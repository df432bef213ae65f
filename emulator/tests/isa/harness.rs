//! Makes kernels of cases, runs them and compares.

use crate::values::{Rng, tuples};
use kvick_emulator::exec::{Launch, Program, launch};
use kvick_emulator::gpu::{DeviceSpec, Gpu};
use kvick_emulator::ptx;
use std::fmt::Write;

pub use crate::values::Kind;

/// Class of a PTX register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    Pred,
    B16,
    B32,
    B64,
}

use Reg::{B16, B32, B64, Pred};

/// What a model says of one result.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// These bits.
    Bits(u64),
    /// Any NaN of an `f64`: PTX does not say which.
    NanF64,
    /// An `f32` within one of these bounds of a value: units in the last place, absolute, relative.
    Near { value: f64, ulps: f64, absolute: f64, relative: f64 },
    /// Bits at most so many units away, as integers.
    Units { bits: u64, units: u64 },
}

impl Want {
    fn accepts(&self, got: u64) -> bool {
        match *self {
            Want::Bits(want) => got == want,
            Want::NanF64 => f64::from_bits(got).is_nan(),
            Want::Units { bits, units } => got.abs_diff(bits) <= units,
            Want::Near { value, ulps, absolute, relative } => {
                let got = f32::from_bits(got as u32);
                let error = (f64::from(got) - value).abs();
                let near = (value as f32).abs().min(f32::MAX);
                let ulp = f64::from(near.next_up().min(f32::MAX)) - f64::from(near);
                let overflow =
                    got.is_infinite() && value.abs() > f64::from(f32::MAX) && got.is_sign_positive() == (value > 0.0);
                overflow || error <= absolute || error <= ulps * ulp || error <= relative * value.abs()
            }
        }
    }
}

type Model = Box<dyn Fn(&[u64]) -> Vec<Want>>;

/// One instruction under test.
pub struct Case {
    /// Its name in reports.
    pub name: String,
    /// Instructions; `{d0}` and `{a0}` stand for results and operands.
    lines: Vec<String>,
    outputs: Vec<Reg>,
    inputs: Vec<Reg>,
    /// One operand tuple for each lane that is to run it.
    tuples: Vec<Vec<u64>>,
    model: Model,
    /// May the first result be the first operand's register?
    alias: bool,
}

impl Kind {
    /// The register class that holds it.
    pub fn reg(self) -> Reg {
        match self {
            Kind::Pred => Pred,
            Kind::I16 | Kind::F16 | Kind::Bf16 | Kind::Fp8x2 => B16,
            Kind::I64 | Kind::F64 | Kind::F64Int => B64,
            _ => B32,
        }
    }
}

/// `op d, a0, a1, ..;` with exact results.
pub fn case(op: &str, output: Reg, inputs: &[Kind], model: impl Fn(&[u64]) -> u64 + 'static) -> Case {
    general(op, &[output], inputs, move |x| vec![Want::Bits(model(x))])
}

/// `op d0, d1, .., a0, a1, ..;`
pub fn general(op: &str, outputs: &[Reg], inputs: &[Kind], model: impl Fn(&[u64]) -> Vec<Want> + 'static) -> Case {
    let operands =
        (0..outputs.len()).map(|i| format!("{{d{i}}}")).chain((0..inputs.len()).map(|i| format!("{{a{i}}}")));
    let line = format!("{op} {};", operands.collect::<Vec<_>>().join(", "));
    lines(op, &[&line], outputs, inputs, model)
}

/// Several instructions, or operands in an unusual form.
pub fn lines(
    name: &str,
    lines: &[&str],
    outputs: &[Reg],
    inputs: &[Kind],
    model: impl Fn(&[u64]) -> Vec<Want> + 'static,
) -> Case {
    let alias = lines.len() == 1 && outputs.len() == 1 && inputs[0].reg() == outputs[0] && outputs[0] != Pred;
    Case {
        name: name.to_string(),
        lines: lines.iter().map(|l| l.to_string()).collect(),
        outputs: outputs.to_vec(),
        inputs: inputs.iter().map(|k| k.reg()).collect(),
        tuples: tuples(name, inputs),
        model: Box::new(model),
        alias,
    }
}

/// What registers hold before the instruction, where the guard is false it must stay.
fn before(reg: Reg) -> u64 {
    match reg {
        Pred => 0,
        B16 => 0x5a5a,
        B32 => 0x5a5a_5a5a,
        B64 => 0x5a5a_5a5a_5a5a_5a5a,
    }
}

const THREADS: usize = 128;

impl Case {
    /// Results stored for each tuple: the outputs, then the aliased one.
    fn stored(&self) -> usize {
        self.outputs.len() + usize::from(self.alias)
    }

    /// The kernel: operands are read from `in`, 8 bytes each, results go to `out`; `guard` holds a word for each thread.
    pub fn ptx(&self) -> String {
        let mut s = String::from(
            ".version 8.6\n.target sm_90a\n.address_size 64\n\
             .visible .entry k(.param .u64 out, .param .u64 in, .param .u64 guard)\n{\n\
             .reg .pred %act;\n.reg .b32 %r<8>;\n.reg .b64 %rd<8>;\n",
        );
        for (i, reg) in self.outputs.iter().enumerate() {
            let _ = writeln!(s, ".reg .{} %d{i};", reg_type(*reg));
        }
        for (i, reg) in self.inputs.iter().enumerate() {
            let _ = writeln!(s, ".reg .{} %a{i};", reg_type(*reg));
        }
        s.push_str(
            "mov.u32 %r0, %ctaid.x;\nmov.u32 %r1, %ntid.x;\nmov.u32 %r2, %tid.x;\nmad.lo.u32 %r3, %r0, %r1, %r2;\n\
             ld.param.u64 %rd0, [out];\nld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [guard];\n\
             mul.wide.u32 %rd3, %r3, 4;\nadd.u64 %rd2, %rd2, %rd3;\nld.global.u32 %r4, [%rd2];\n\
             setp.ne.u32 %act, %r4, 0;\n",
        );
        let _ = writeln!(s, "mul.wide.u32 %rd3, %r3, {};\nadd.u64 %rd1, %rd1, %rd3;", 8 * self.inputs.len());
        let _ = writeln!(s, "mul.wide.u32 %rd3, %r3, {};\nadd.u64 %rd0, %rd0, %rd3;", 8 * self.stored());
        for (i, reg) in self.inputs.iter().enumerate() {
            let _ = writeln!(s, "ld.global.u64 %rd4, [%rd1+{}];", 8 * i);
            s.push_str(&from_word(*reg, &format!("%a{i}")));
        }
        for (i, reg) in self.outputs.iter().enumerate() {
            let _ = writeln!(s, "mov.u64 %rd4, {};", before(*reg));
            s.push_str(&from_word(*reg, &format!("%d{i}")));
        }
        self.instructions(&mut s, "%d0");
        for (i, reg) in self.outputs.iter().enumerate() {
            let _ = writeln!(s, "{}st.global.u64 [%rd0+{}], %rd4;", to_word(*reg, &format!("%d{i}")), 8 * i);
        }
        if self.alias {
            self.instructions(&mut s, "%a0");
            let at = 8 * self.outputs.len();
            let _ = writeln!(s, "{}st.global.u64 [%rd0+{at}], %rd4;", to_word(self.outputs[0], "%a0"));
        }
        s.push_str("ret;\n}\n");
        s
    }

    fn instructions(&self, s: &mut String, first: &str) {
        for line in &self.lines {
            let mut line = line.replace("{d0}", first);
            for i in 0..self.outputs.len() {
                line = line.replace(&format!("{{d{i}}}"), &format!("%d{i}"));
            }
            for i in 0..self.inputs.len() {
                line = line.replace(&format!("{{a{i}}}"), &format!("%a{i}"));
            }
            let declares = line.starts_with('.') || line.starts_with('{') || line.starts_with('}');
            let _ = writeln!(s, "{}{line}", if declares { "" } else { "@%act " });
        }
    }

    /// Runs all tuples; at most three failures as text.
    fn run(&self, gpu: &Gpu) -> Result<(), String> {
        let text = self.ptx();
        let module = ptx::parse(&text).map_err(|e| format!("{}: {e}\n{text}", self.name))?;
        let program = Program::load(&module, gpu.memory(), gpu.spec()).map_err(|e| {
            format!("{}: {}", self.name, e.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        let mut tuples = self.tuples.clone();
        while !tuples.len().is_multiple_of(THREADS) {
            tuples.push(tuples[tuples.len() % self.tuples.len()].clone());
        }
        let guard = guards(tuples.len(), &self.name);
        let input: Vec<u64> = tuples.concat();
        let out = execute(gpu, &program, &input, &guard, tuples.len() * self.stored())
            .map_err(|e| format!("{}: {e}", self.name))?;
        let mut failures = Vec::new();
        for (i, tuple) in tuples.iter().enumerate() {
            let got = &out[i * self.stored()..(i + 1) * self.stored()];
            if let Err(message) = self.check(tuple, guard[i] != 0, got) {
                failures.push(format!("{} lane {}: {message}", self.name, i % 32));
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        let shown = failures.len().min(3);
        Err(format!("{}\n  ({} of {} tuples)", failures[..shown].join("\n"), failures.len(), tuples.len()))
    }

    fn check(&self, tuple: &[u64], active: bool, got: &[u64]) -> Result<(), String> {
        let mut want = match active {
            true => (self.model)(tuple),
            false => self.outputs.iter().map(|&reg| Want::Bits(before(reg))).collect(),
        };
        assert_eq!(want.len(), self.outputs.len(), "{}: the model's results", self.name);
        if self.alias {
            want.push(if active { want[0] } else { Want::Bits(tuple[0] & width(self.inputs[0])) });
        }
        for (i, (want, &got)) in want.iter().zip(got).enumerate() {
            if !want.accepts(got) {
                let operands: Vec<String> = tuple.iter().map(|x| format!("{x:#x}")).collect();
                let place = if i == self.outputs.len() { "aliased".to_string() } else { format!("d{i}") };
                let masked = if active { "" } else { " (inactive)" };
                return Err(format!("{place}{masked} of {}: got {got:#x}, want {want:x?}", operands.join(" ")));
            }
        }
        Ok(())
    }
}

fn width(reg: Reg) -> u64 {
    match reg {
        Pred => 1,
        B16 => 0xffff,
        B32 => 0xffff_ffff,
        B64 => !0,
    }
}

fn reg_type(reg: Reg) -> &'static str {
    match reg {
        Pred => "pred",
        B16 => "b16",
        B32 => "b32",
        B64 => "b64",
    }
}

/// The register from `%rd4`.
fn from_word(reg: Reg, name: &str) -> String {
    match reg {
        Pred => format!("and.b64 %rd4, %rd4, 1;\nsetp.ne.u64 {name}, %rd4, 0;\n"),
        B16 => format!("cvt.u16.u64 {name}, %rd4;\n"),
        B32 => format!("cvt.u32.u64 {name}, %rd4;\n"),
        B64 => format!("mov.b64 {name}, %rd4;\n"),
    }
}

/// `%rd4` from the register.
fn to_word(reg: Reg, name: &str) -> String {
    match reg {
        Pred => format!("selp.u64 %rd4, 1, 0, {name};\n"),
        B16 => format!("cvt.u64.u16 %rd4, {name};\n"),
        B32 => format!("cvt.u64.u32 %rd4, {name};\n"),
        B64 => format!("mov.b64 %rd4, {name};\n"),
    }
}

/// Guards by warp: full, then random, then one lane, then alternating.
fn guards(count: usize, name: &str) -> Vec<u32> {
    let mut rng = Rng::new(name);
    let mut all = Vec::with_capacity(count);
    for warp in 0..count / 32 {
        let mask = match warp % 4 {
            0 | 2 => !0,
            1 => rng.next() as u32 | 1 << (warp / 4 % 32),
            _ => 0x5555_5555 ^ (rng.next() as u32 & 0xff),
        };
        all.extend((0..32).map(|lane| mask >> lane & 1));
    }
    all
}

/// Copies slices to device memory, as bytes.
pub fn upload<T: Copy>(gpu: &Gpu, data: &[T]) -> u64 {
    let bytes = size_of_val(data);
    let addr = gpu.memory().alloc(bytes.max(1)).expect("device memory");
    let host = gpu.memory().host_ptr(addr, bytes).expect("a fresh allocation");
    // SAFETY: the allocation has this size, and no kernel runs.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr().cast(), host, bytes) };
    addr
}

/// Copies device memory back and frees it.
pub fn download(gpu: &Gpu, addr: u64, count: usize) -> Vec<u64> {
    let mut out = vec![0u64; count];
    let host = gpu.memory().host_ptr(addr, count * 8).expect("a live allocation");
    // SAFETY: the allocation has this size, and no kernel runs.
    unsafe { std::ptr::copy_nonoverlapping(host, out.as_mut_ptr().cast(), count * 8) };
    gpu.memory().free(addr).expect("a live allocation");
    out
}

fn execute(gpu: &Gpu, program: &Program, input: &[u64], guard: &[u32], results: usize) -> Result<Vec<u64>, String> {
    let out = upload(gpu, &vec![0xdead_beef_u64; results]);
    let (input, words) = (upload(gpu, input), upload(gpu, guard));
    let params = [out, input, words].iter().flat_map(|a| a.to_le_bytes()).collect();
    let kernel = program.kernel("k").ok_or("no kernel k")?;
    let blocks = (guard.len() / THREADS) as u32;
    let config = Launch { grid: [blocks, 1, 1], block: [THREADS as u32, 1, 1], params, ..Launch::default() };
    let result = launch(program, kernel, &config, gpu).map_err(|fault| fault.report);
    let got = download(gpu, out, results);
    for addr in [input, words] {
        gpu.memory().free(addr).expect("a live allocation");
    }
    result.map(|()| got)
}

/// A GPU for tests: two workers, 64 MiB.
pub fn gpu() -> Gpu {
    Gpu::new(DeviceSpec::H100, 2, 64 << 20).expect("an emulated GPU")
}

/// Runs the cases and panics with every one that fails.
pub fn run_all(cases: Vec<Case>) {
    assert!(!cases.is_empty(), "no cases");
    let (native, mut interpreting) = (gpu(), gpu());
    interpreting.set_native(false);
    let failures: Vec<String> =
        cases.iter().flat_map(|case| [&native, &interpreting].map(|gpu| case.run(gpu).err())).flatten().collect();
    assert!(failures.is_empty(), "{} failures of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
