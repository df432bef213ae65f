//! What is counted of a launch, to the instruction: loops, divergent branches, and moves of constants, which are counted
//! though nothing executes them.
use kvick_emulator::exec::{Class, Launch, Program, launch};
use kvick_emulator::gpu::{DeviceSpec, Gpu, KernelCounters};
use kvick_emulator::ptx;

/// 37 instructions a warp: 26 before the branch, 3 by lanes 8 to 31, 2 by lanes 0 to 7, 6 by all.
const KERNEL: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .pred %p<3>;
    .reg .b32 %r<11>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, 7;
    mov.u32 %r3, 0;
LOOP:
    mov.u32 %r4, 3;
    add.s32 %r3, %r3, 1;
    setp.lt.s32 %p1, %r3, 5;
    @%p1 bra LOOP;
    setp.lt.u32 %p2, %r1, 8;
    @%p2 bra LOW;
    mov.u32 %r5, 9;
    add.s32 %r6, %r5, %r2;
    bra.uni END;
LOW:
    add.s32 %r6, %r4, %r4;
    mov.u32 %r7, 11;
END:
    mov.u32 %r8, 31;
    shfl.sync.idx.b32 %r9, %r6, 0, %r8, -1;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r9;
    ret;
}";

fn counted(blocks: u32, threads: u32, workers: usize) -> KernelCounters {
    let gpu = Gpu::new(DeviceSpec::A100, workers, 1 << 20).expect("an emulated GPU");
    let program = Program::load(&ptx::parse(KERNEL).expect("PTX"), gpu.memory(), gpu.spec()).expect("a program");
    let out = gpu.memory().alloc(4 * threads as usize).expect("device memory");
    let config = Launch {
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        params: out.to_le_bytes().to_vec(),
        ..Launch::default()
    };
    launch(&program, 0, &config, &gpu).expect("no fault");
    gpu.counters().remove(0)
}

#[test]
fn instructions_are_counted_by_warp_lane_and_class() {
    let of = |counters: &KernelCounters, class: Class| counters.by_class[class as usize];
    for (blocks, workers) in [(1, 1), (6, 2)] {
        let warps = 3 * u64::from(blocks);
        let counters = counted(blocks, 96, workers);
        // Only the first warp of a block has lanes below 8; the others do not execute the two instructions of LOW.
        let apart = u64::from(blocks);
        assert_eq!(counters.warp_instructions, 35 * warps + 2 * apart);
        // Lanes whose guard is false take no part: all at the end of the loop, and those that do not branch to LOW.
        let guarded = warps * 32 + (warps - apart) * 32 + apart * 24;
        assert_eq!(counters.lane_instructions, warps * 32 * 35 - apart * 8 * 3 + apart * 8 * 2 - guarded);
        assert_eq!(of(&counters, Class::Control), (5 + 1 + 1 + 1) * warps);
        assert_eq!(of(&counters, Class::Compare), (5 + 1) * warps);
        assert_eq!(of(&counters, Class::Warp), warps);
        assert_eq!(of(&counters, Class::Global), warps);
        assert_eq!(of(&counters, Class::Integer), (4 + 10 + 2 + 3) * warps + 2 * apart);
        assert_eq!((counters.global_stores, counters.store_sectors), (warps, 4 * warps));
    }
}

#[test]
fn lanes_without_a_thread_are_not_counted() {
    let counters = counted(1, 40, 1);
    assert_eq!(counters.warp_instructions, 35 * 2 + 2);
    // The second warp has eight lanes.
    assert_eq!(counters.lane_instructions, 32 * 32 + 24 * 3 + 8 * 2 + 8 * 35 - (32 + 24) - (8 + 8));
}

/// Lanes in turn at two places: two sectors, although neighbours are never in the same one.
#[test]
fn sectors_that_lanes_come_back_to_are_counted_once() {
    let text = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    and.b32 %r2, %r1, 1;
    mul.wide.u32 %rd2, %r2, 32;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r1;
    ret;
}";
    let gpu = Gpu::new(DeviceSpec::A100, 1, 1 << 20).expect("an emulated GPU");
    let program = Program::load(&ptx::parse(text).expect("PTX"), gpu.memory(), gpu.spec()).expect("a program");
    let out = gpu.memory().alloc(64).expect("device memory");
    let config = Launch { grid: [1; 3], block: [32, 1, 1], params: out.to_le_bytes().to_vec(), ..Launch::default() };
    launch(&program, 0, &config, &gpu).expect("no fault");
    assert_eq!(gpu.counters().remove(0).store_sectors, 2);
}
