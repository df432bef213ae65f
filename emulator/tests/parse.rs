//! The PTX parser: what each form of syntax becomes, what errors say, and that hostile text is only ever an error.

use kvick_emulator::ptx::ast::{Function, Instr, MemBase, Module, Operand, Space, Stmt, Sym};
use kvick_emulator::ptx::parse;
use proptest::prelude::*;

const SYNTAX: &str = include_str!("fixtures/syntax.ptx");

fn module() -> Module {
    parse(SYNTAX).unwrap()
}

fn function<'m>(module: &'m Module, name: &str) -> &'m Function {
    module.functions.iter().find(|f| f.name == name).unwrap()
}

fn instructions(f: &Function) -> Vec<&Instr> {
    let body = f.body.as_ref().unwrap();
    body.iter().filter_map(|s| if let Stmt::Instr(i) = s { Some(i) } else { None }).collect()
}

/// The first instruction whose opcode begins with `op`.
fn find<'m>(f: &'m Function, op: &str) -> &'m Instr {
    instructions(f).into_iter().find(|i| i.op.join(".").starts_with(op)).unwrap()
}

fn register(f: &Function, operand: &Operand) -> String {
    match operand {
        Operand::Reg(id) | Operand::NotReg(id) => f.regs[*id as usize].name.clone(),
        other => panic!("{other:?} is not a register"),
    }
}

/// A kernel around `body`.
fn kernel(body: &str) -> String {
    format!(".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {{\n{body}\n}}\n")
}

#[test]
fn module_facts() {
    let m = module();
    assert_eq!((m.version, m.target.as_str()), ((9, 0), "sm_90a"));
    assert_eq!(m.files, [(1, "syntax.cu".to_string()), (2, "helper.cuh".to_string())]);
    let names: Vec<_> = m.functions.iter().map(|f| (f.name.as_str(), f.entry, f.body.is_some())).collect();
    let expected = [
        ("vprintf", false, false),
        ("twice", false, true),
        ("thrice", false, true),
        ("nothing", false, true),
        ("kernel", true, true),
    ];
    assert_eq!(names, expected);
    assert_eq!(function(&m, "twice").params[0].name, "value", "the definition's names replace the prototype's");
}

#[test]
fn initialised_variables() {
    let m = module();
    let var = |name: &str| m.vars.iter().find(|v| v.name == name).unwrap();
    assert_eq!((var("table").space, var("table").size, var("table").align), (Space::Const, 16, 4));
    assert_eq!(var("table").init, [0, 0, 128, 63, 1]);
    let floats: Vec<_> = var("numbers").init.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(floats, [1.5, -2.0, 1.0]);
    assert_eq!(var("pointers").relocs, [(0, "glob".into(), 4, true), (8, "twice".into(), 0, false)]);
    assert_eq!(var("pointers").init[16..], [0xff; 8]);
    assert_eq!(var("packed").relocs, [(1, "glob".into(), 0, true)]);
    let ints: Vec<_> = var("matrix").init.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!((ints, var("matrix").size), (vec![1, -1, 16, 19, 20], 24));
    assert_eq!((var("quad").size, var("quad").align), (16, 16));
    assert_eq!((var("dynamic").size, var("dynamic").external), (0, true));
}

#[test]
fn kernel_header() {
    let m = module();
    let k = function(&m, "kernel");
    let sizes: Vec<_> = k.params.iter().map(|p| (p.size, p.align)).collect();
    assert_eq!(sizes, [(8, 8), (24, 8)]);
    let directives: Vec<_> = k.directives.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
    let expected: [(&str, &[u32]); 4] = [
        (".maxntid", &[256, 1, 1]),
        (".minnctapersm", &[2]),
        (".explicitcluster", &[]),
        (".reqnctapercluster", &[2, 1, 1]),
    ];
    assert_eq!(directives, expected);
}

#[test]
fn operands() {
    let m = module();
    let k = function(&m, "kernel");
    let load = find(k, "ld.global.L1::no_allocate");
    assert_eq!(load.op, ["ld", "global", "L1::no_allocate", "L2::128B", "v2", "f32"]);
    assert!(matches!(&load.args[0], Operand::Vector(v) if v[1] == Operand::Sink));
    assert!(matches!(load.args[1], Operand::Mem(MemBase::Reg(_), -8)));
    assert_eq!((load.pos.file, load.pos.line), (1, 12));
    assert_eq!(find(k, "add").op, ["add", "f32"]);
    assert_eq!(find(k, "add").args[2], Operand::F32(1f32.to_bits()));
    assert!(matches!(&find(k, "shfl").args[0], Operand::Pair(..)));
    assert!(matches!(find(k, "setp.lt").args[3], Operand::NotReg(_)));
    assert!(matches!(&find(k, "elect").args[0], Operand::Pair(a, _) if **a == Operand::Sink));
    assert_eq!(find(k, "createpolicy").args[1], Operand::F64(1f64.to_bits()));
    let tensor = find(k, "cp.async.bulk.tensor");
    assert!(matches!(&tensor.args[1], Operand::MemList(l) if l.len() == 2));
    assert_eq!(tensor.op.last().unwrap(), "mbarrier::complete_tx::bytes");
    assert!(matches!(find(k, "st.shared").args[0], Operand::Mem(MemBase::Sym(Sym::ModuleVar(_)), 16)));
    assert_eq!(find(k, "ld.u32").args[1], Operand::Mem(MemBase::Abs, 0x40));
    assert_eq!(find(k, "ld.param").args[1], Operand::Mem(MemBase::Sym(Sym::Param(1)), 8));
}

#[test]
fn inner_scopes_hide_registers_and_labels() {
    let m = module();
    let k = function(&m, "kernel");
    let inner = instructions(k).into_iter().find(|i| i.args.get(1) == Some(&Operand::Int(5))).unwrap();
    assert_eq!(register(k, &inner.args[0]), "%r1$1", "the scope's own %r1");
    let branches: Vec<_> = instructions(k)
        .into_iter()
        .filter(|i| i.op[0] == "bra")
        .map(|i| match i.args[0] {
            Operand::Label(id) => k.labels[id as usize].as_str(),
            ref other => panic!("{other:?} is not a label"),
        })
        .collect();
    assert_eq!(branches, ["DONE", "AGAIN", "$L__BB0_2"]);
    assert!(k.labels.contains(&"DONE$1".to_string()));
    let places = k.body.as_ref().unwrap().iter().filter(|s| matches!(s, Stmt::Label(_))).count();
    assert_eq!(places, k.labels.len());
}

#[test]
fn calls_and_lists() {
    let m = module();
    let k = function(&m, "kernel");
    let calls: Vec<_> = instructions(k).into_iter().filter(|i| i.op[0] == "call").collect();
    assert!(matches!(&calls[0].args[0], Operand::Paren(v) if matches!(v[0], Operand::Addr(Sym::LocalVar(_), 0))));
    assert!(matches!(calls[0].args[1], Operand::Addr(Sym::Function(1), 0)));
    assert!(matches!(&calls[1].args[3], Operand::List(l) if *l == k.prototypes[0].0));
    assert_eq!(k.prototypes[0].1.params[0].size, 4);
    assert_eq!(calls[2].args.len(), 1);
    let jump = find(k, "brx.idx");
    assert!(jump.guard.is_some());
    assert_eq!(jump.args[1], Operand::List("targets".into()));
    let targets: Vec<_> = k.targets[0].1.iter().map(|&l| k.labels[l as usize].as_str()).collect();
    assert_eq!(targets, ["$L__BB0_1", "$L__BB0_2"]);
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let cases = [
        ("add.s32 %r1, 1, 2;", "line 5, column 9: `%r1` is not declared"),
        ("bra NOWHERE;", "line 5, column 5: label `NOWHERE` is not defined in this function"),
        (".reg .b32 a; .reg .b32 a;", "`a` is declared twice in this scope"),
        (".reg .b32 r; mov.u32 r, 1", "line 6, column 1: expected `,` or `;`, found `}`"),
        (".reg .b32 r; mov.u32 r, 1/0;", "`/` of these constants has no value"),
        ("L: L: ret;", "label `L` is defined twice in this scope"),
        ("@p ret;", "predicate `p` is not declared"),
        (".reg .q32 a;", "expected a register type such as `.b32`, found `.q32`"),
        ("{ X: } bra X;", "label `X` is not defined in this function"),
        (".reg .b32 r<4000000000>;", "more than 1048576 registers"),
        (".shared .b8 a[1099511627776][1099511627776];", "`a` is larger than 2^40 bytes"),
    ];
    for (body, message) in cases {
        let error = parse(&kernel(body)).expect_err(body).to_string();
        assert!(error.contains(message), "{body}: {error}");
    }
    assert!(parse("int main() {}").unwrap_err().to_string().contains("expected `.version`"));
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = 10_000;
    for body in [
        "{".repeat(deep),
        format!(".reg .b32 r; mov.u32 r, {}1;", "(".repeat(deep)),
        format!(".reg .b32 r; mov.u32 r, {}1;", "-".repeat(deep)),
        format!(".reg .b32 r; mov.u32 r, {}1;", "{".repeat(deep)),
        format!(".reg .b32 r; mov.u32 r, 1{};", "?1:1".repeat(deep)),
    ] {
        assert!(parse(&kernel(&body)).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any text is a module or an error.
    #[test]
    fn any_text_terminates(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&kernel(&text));
    }

    /// Real PTX with bytes deleted, doubled and replaced.
    #[test]
    fn mutations_terminate(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[ -~]{0,6}"), 1..6)) {
        let mut text = SYNTAX.to_string();
        for (at, length, insert) in edits {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.replace_range(start..end, &insert);
        }
        let _ = parse(&text);
    }
}
