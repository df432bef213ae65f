//! Every instruction of the encoder, over all registers and kinds of addresses, as a disassembler reads it.
use super::*;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

/// The one instruction that `code` is, in Intel's syntax.
fn shown(code: &[u8]) -> String {
    let mut decoder = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE);
    let instruction = decoder.decode();
    assert_eq!(instruction.len(), code.len(), "{code:02x?} is not one instruction");
    let (mut formatter, mut text) = (IntelFormatter::new(), String::new());
    formatter.options_mut().set_rip_relative_addresses(true);
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_show_branch_size(false);
    formatter.format(&instruction, &mut text);
    text
}

fn encoded(emit: impl FnOnce(&mut Asm)) -> String {
    let mut asm = Asm::default();
    emit(&mut asm);
    shown(&asm.finish().expect("all labels bound").0)
}

const NAMES: [&str; 16] =
    ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Addresses of every kind and how a disassembler writes them, without what is before the bracket.
fn addresses() -> Vec<(Mem, String)> {
    let mut all = Vec::new();
    for base in 0..16u8 {
        for (disp, text) in [(0, ""), (5, "+5"), (-128, "-80h"), (0x1234, "+1234h")] {
            all.push((Mem::at(Gpr(base), disp), format!("[{}{text}]", NAMES[base as usize])));
            for index in [1u8, 2, 9, 15] {
                for scale in 0..4u8 {
                    let mem = Mem { base: Gpr(base), index: Some((Gpr(index), scale)), disp };
                    let times = if scale == 0 { String::new() } else { format!("*{}", 1 << scale) };
                    all.push((mem, format!("[{}+{}{times}{text}]", NAMES[base as usize], NAMES[index as usize])));
                }
            }
        }
    }
    all
}

/// What a form's operands are called: of 128 bits where half a register is meant.
fn halves(name: &str) -> (&'static str, &'static str) {
    match name {
        "VPMOVZXDQ" | "VPMOVZXWD" | "VPMOVSXDQ" | "VPBROADCASTB" | "VCVTPH2PS" | "VINSERTI128" | "VCVTDQ2PD"
        | "VEXTRACTI128" | "VCVTPS2PH" => ("ymm", "xmm"),
        "VCVTTPD2DQ" => ("xmm", "ymm"),
        _ => ("ymm", "ymm"),
    }
}

#[test]
fn vector_instructions_read_as_meant() {
    let registers = [0u8, 3, 7, 8, 12, 15];
    for (name, form) in FORMS {
        let mnemonic = name.trim_end_matches("_STORE").to_lowercase();
        let (full, half) = halves(name);
        let mut rms: Vec<(Rm, String)> = registers.iter().map(|r| (Rm::R(*r), format!("{half}{r}"))).collect();
        rms.extend(addresses().into_iter().step_by(7).map(|(mem, text)| (Rm::M(mem), text)));
        for (i, (rm, m)) in rms.iter().enumerate() {
            if *name == "VMOVMSKPS" && matches!(rm, Rm::M(_)) {
                continue;
            }
            let (r, v, x) = (registers[i % 6], registers[i / 6 % 6], registers[i / 3 % 6]);
            let (d, a, imm) = (Ymm(r), Ymm(v), (i * 37) as u8 & 0x7f);
            let (r, v, x) = (format!("{full}{r}"), format!("{full}{v}"), (Ymm(x), format!("{full}{x}")));
            let number = if imm < 10 { format!("{imm}") } else { format!("{imm:X}h") };
            let number =
                if number.starts_with(|c: char| c.is_ascii_alphabetic()) { format!("0{number}") } else { number };
            let mut asm = Asm::default();
            let want = match form.shape {
                Shape::Rvm => {
                    asm.op3(*form, d, a, *rm);
                    format!("{mnemonic} {r}, {v}, {m}")
                }
                Shape::Rvmi => {
                    asm.op3i(*form, d, a, *rm, imm);
                    format!("{mnemonic} {r}, {v}, {m}, {number}")
                }
                Shape::Rvmr => {
                    asm.blend(*form, d, a, *rm, x.0);
                    format!("{mnemonic} {r}, {v}, {m}, {}", x.1)
                }
                Shape::Rm if *name == "VMOVMSKPS" => {
                    asm.signs(Gpr(3), d);
                    format!("{mnemonic} ebx, {r}")
                }
                Shape::Rm => {
                    asm.op2(*form, d, *rm);
                    format!("{mnemonic} {r}, {m}")
                }
                Shape::Rmi => {
                    asm.op2i(*form, d, *rm, imm);
                    format!("{mnemonic} {r}, {m}, {number}")
                }
                Shape::Vmi(_) => {
                    // Shifts of memory are not of AVX2.
                    if matches!(rm, Rm::M(_)) {
                        continue;
                    }
                    asm.op2i(*form, d, *rm, imm);
                    format!("{mnemonic} {r}, {m}, {number}")
                }
                Shape::Mr => {
                    asm.store(*form, *rm, d, None);
                    format!("{mnemonic} {m}, {r}")
                }
                Shape::Mri => {
                    asm.store(*form, *rm, d, Some(imm));
                    format!("{mnemonic} {m}, {r}, {number}")
                }
            };
            let got = shown(&asm.code);
            // How wide an operand in memory is, is not what is asked here; what comparisons are called, neither.
            let got = ["ymmword ptr ", "xmmword ptr ", "dword ptr ", "byte ptr ", "qword ptr "]
                .iter()
                .fold(got, |text, width| text.replace(width, ""));
            if *name == "VCMPPS" {
                assert!(got.starts_with("vcmp") && got.contains(&format!("{r}, {v}, {m}")), "{got}, not {want}");
                assert_eq!(asm.code.last(), Some(&imm));
                continue;
            }
            assert_eq!(got, want, "{name}: {:02x?}", asm.code);
        }
    }
}

#[test]
fn general_instructions_read_as_meant() {
    for (mem, text) in addresses() {
        assert_eq!(encoded(|a| a.mov(true, R13, mem)), format!("mov r13, {text}"));
        assert_eq!(encoded(|a| a.mov_byte_to(mem, RBX)), format!("mov {text}, bl"));
        assert_eq!(encoded(|a| a.alu_to(Alu::Add, true, mem, RAX)), format!("add {text}, rax"));
        assert_eq!(encoded(|a| a.alu_imm(Alu::Sub, true, mem, 1)), format!("sub qword ptr {text}, 1"));
        assert_eq!(encoded(|a| a.alu_imm(Alu::Add, false, mem, 300)), format!("add dword ptr {text}, 12Ch"));
        assert_eq!(encoded(|a| a.lea(R12, mem)), format!("lea r12, {text}"));
        assert_eq!(encoded(|a| a.call(mem)), format!("call qword ptr {text}"));
    }
    assert_eq!(encoded(|a| a.alu(Alu::Xor, false, RDX, Mem::at(RBX, 8))), "xor edx, [rbx+8]");
    assert_eq!(encoded(|a| a.alu(Alu::Cmp, true, R14, RSP)), "cmp r14, rsp");
    assert_eq!(encoded(|a| a.alu(Alu::Add, false, RAX, R15)), "add eax, r15d");
    assert_eq!(encoded(|a| a.alu_imm(Alu::Cmp, false, RCX, 128)), "cmp ecx, 80h");
    assert_eq!(encoded(|a| a.mov_imm32(R14, 0x12345)), "mov r14d, 12345h");
    assert_eq!(encoded(|a| a.mov_imm32(RSI, 7)), "mov esi, 7");
    assert_eq!(encoded(|a| a.mov_imm64(R15, 0x123456789abcdef0)), "mov r15, 123456789ABCDEF0h");
    assert_eq!(encoded(|a| a.mov_imm64(RDI, 1 << 40)), "mov rdi, 10000000000h");
    assert_eq!(encoded(|a| a.popcnt(RAX, RDX)), "popcnt eax, edx");
    assert_eq!(encoded(|a| a.imul(RAX, RCX, 3)), "imul eax, ecx, 3");
    assert_eq!(encoded(|a| a.not(RDX)), "not edx");
    assert_eq!(encoded(|a| a.test(RAX, RBP)), "test eax, ebp");
    assert_eq!(encoded(|a| a.test_byte(RAX)), "test al, al");
    assert_eq!(encoded(|a| a.movzx_byte(RDX, RAX)), "movzx edx, al");
    assert_eq!(encoded(|a| a.push(R12)), "push r12");
    assert_eq!(encoded(|a| a.pop(RBP)), "pop rbp");
    assert_eq!(encoded(|a| a.call(R15)), "call r15");
    assert_eq!(encoded(|a| a.jmp_to(RSI)), "jmp rsi");
    assert_eq!(encoded(|a| a.ret()), "ret");
    assert_eq!(encoded(|a| a.vzeroupper()), "vzeroupper");
}

#[test]
fn jumps_reach_their_labels() {
    let mut asm = Asm::default();
    let (back, on) = (asm.label(), asm.label());
    asm.ret();
    asm.bind(back);
    asm.jmp(on);
    asm.jcc(Cond::Ne, back);
    asm.bind(on);
    asm.jcc(Cond::E, on);
    let (code, _) = asm.finish().expect("all labels bound");
    assert_eq!(shown(&code[1..6]), "jmp 000000000000100Bh");
    assert_eq!(shown(&code[6..12]), "jne 0000000000000FFBh");
    assert_eq!(shown(&code[12..18]), "je 0000000000001000h");
    let mut asm = Asm::default();
    let nowhere = asm.label();
    asm.jmp(nowhere);
    assert!(asm.finish().is_none());
}
