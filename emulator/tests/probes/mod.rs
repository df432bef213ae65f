//! A GPU with one loaded module, for tests of execution without the driver.
#![allow(dead_code, reason = "each test program uses a part of it")]

use kvick_emulator::exec::{Fault, Launch, Program, launch};
use kvick_emulator::gpu::{DeviceSpec, Gpu, KernelCounters};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A module on an emulated A100.
pub struct Device {
    pub gpu: Gpu,
    pub program: Program,
}

/// A kernel's parameter.
#[derive(Clone)]
pub enum Arg {
    Ptr(u64),
    Int(i32),
    Float(f32),
}

impl Device {
    pub fn new(ptx: &str, threads: usize) -> Device {
        let module = kvick_emulator::ptx::parse(ptx).unwrap_or_else(|e| panic!("{e}"));
        let gpu = Gpu::new(DeviceSpec::A100, threads, 1 << 30).unwrap();
        let program = Program::load(&module, gpu.memory(), gpu.spec())
            .unwrap_or_else(|errors| panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>()));
        Device { gpu, program }
    }

    /// Uploads values.
    pub fn put<T: Copy>(&self, values: &[T]) -> u64 {
        let bytes = std::mem::size_of_val(values);
        let addr = self.gpu.memory().alloc(bytes).unwrap();
        let host = self.gpu.memory().host_ptr(addr, bytes).unwrap();
        // SAFETY: the allocation has this size, and no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr().cast(), host, bytes) };
        addr
    }

    /// Downloads values.
    pub fn get<T: Copy>(&self, addr: u64, count: usize) -> Vec<T> {
        let host = self.gpu.memory().host_ptr(addr, count * size_of::<T>()).unwrap();
        // SAFETY: the allocation holds these values, and no kernel runs.
        unsafe { std::slice::from_raw_parts(host.cast::<T>(), count).to_vec() }
    }

    pub fn run(&self, kernel: &str, grid: u32, block: u32, args: &[Arg]) -> Result<(), Fault> {
        self.launch(kernel, Launch { grid: [grid, 1, 1], block: [block, 1, 1], ..Launch::default() }, args)
    }

    /// Runs, and panics with the report of a fault.
    pub fn must(&self, kernel: &str, grid: u32, block: u32, args: &[Arg]) {
        self.run(kernel, grid, block, args).unwrap_or_else(|fault| panic!("{kernel}: {fault}"));
    }

    pub fn launch(&self, kernel: &str, mut config: Launch, args: &[Arg]) -> Result<(), Fault> {
        let index = self.program.kernel(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        let info = self.program.info(index);
        config.params = vec![0; info.param_bytes];
        assert_eq!(args.len(), info.params.len(), "{kernel}: number of parameters");
        for (arg, (at, size)) in args.iter().zip(&info.params) {
            let bytes = match arg {
                Arg::Ptr(p) => p.to_le_bytes().to_vec(),
                Arg::Int(i) => i.to_le_bytes().to_vec(),
                Arg::Float(f) => f.to_le_bytes().to_vec(),
            };
            config.params[*at..at + size].copy_from_slice(&bytes);
        }
        launch(&self.program, index, &config, &self.gpu)
    }

    pub fn counters(&self, kernel: &str) -> KernelCounters {
        self.gpu
            .counters()
            .into_iter()
            .find(|c| c.name == kernel)
            .unwrap_or_else(|| panic!("{kernel} was not launched"))
    }

    /// Collects what kernels print from now on.
    pub fn output(&self) -> Output {
        let output = Output::default();
        self.gpu.set_output(Box::new(output.clone()));
        output
    }
}

/// Text that kernels printed.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A seeded generator of uniform numbers.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// In [-range, range).
    pub fn real(&mut self, range: f64) -> f64 {
        ((self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * range
    }
}
