//! PTX text to an [`ast::Module`]: module-scope directives here, one file for each part of the grammar below.
//!
//! Names must be declared before they are used, labels excepted. Every error says what was expected and where; hostile
//! text gives an error too, since nesting and declared sizes are bounded.

mod body;
mod cursor;
mod expr;
mod function;
mod operand;
mod scope;
mod var;

use super::ast::{Function, Module, Space, Var};
use super::lex::{ParseError, Tok, lex};
use cursor::{Cursor, Result};
use std::collections::HashMap;

/// Parses one PTX translation unit.
pub fn parse(text: &str) -> std::result::Result<Module, ParseError> {
    let mut parser = Parser {
        cur: Cursor::new(lex(text)?),
        module: Module::default(),
        vars: HashMap::new(),
        functions: HashMap::new(),
    };
    parser.header()?;
    while parser.cur.peek() != Tok::End {
        parser.directive()?;
    }
    Ok(parser.module)
}

struct Parser<'a> {
    cur: Cursor<'a>,
    module: Module,
    /// Module variables by name.
    vars: HashMap<String, u32>,
    /// Entries and functions by name.
    functions: HashMap<String, u32>,
}

impl<'a> Parser<'a> {
    /// `.version 9.0`, `.target sm_80, debug`, `.address_size 64`.
    fn header(&mut self) -> Result<()> {
        if !self.cur.accept_dir(".version") {
            return self.cur.expected("`.version`, with which PTX begins");
        }
        self.module.version = match self.cur.peek() {
            Tok::F64(bits) => {
                let tenths = (f64::from_bits(bits) * 10.0).round();
                ((tenths / 10.0) as u32, (tenths % 10.0) as u32)
            }
            _ => return self.cur.expected("a version such as 8.0"),
        };
        self.cur.next();
        Ok(())
    }

    fn directive(&mut self) -> Result<()> {
        match self.cur.peek() {
            Tok::Dir(".target") => self.target(),
            Tok::Dir(".address_size") => {
                self.cur.next();
                match self.cur.peek() {
                    Tok::Int(64) => {
                        self.cur.next();
                        Ok(())
                    }
                    _ => self.cur.expected("64, the only address size"),
                }
            }
            Tok::Dir(".file") => self.file(),
            Tok::Dir(".section") => {
                self.cur.next();
                self.section()
            }
            Tok::Dir(".loc") => {
                self.cur.next();
                self.cur.loc()
            }
            Tok::Dir(".pragma") => {
                self.cur.next();
                self.cur.pragma()
            }
            Tok::Dir(".alias") => self.alias(),
            Tok::Punct(";") => {
                self.cur.next();
                Ok(())
            }
            Tok::Dir(_) => self.declaration(),
            _ => self.cur.expected("a directive"),
        }
    }

    fn target(&mut self) -> Result<()> {
        self.cur.next();
        self.module.target = self.cur.word("a target such as sm_80")?.to_string();
        while self.cur.accept(",") {
            self.cur.word("a target option")?;
        }
        Ok(())
    }

    /// `.file 1 "a.cu" [, timestamp, size]`.
    fn file(&mut self) -> Result<()> {
        self.cur.next();
        let number = self.cur.u32("a file number")?;
        let path = self.cur.string("a path")?;
        self.module.files.push((number, path.to_string()));
        while self.cur.accept(",") {
            self.cur.int("a file's time or size")?;
        }
        Ok(())
    }

    /// `.section .debug_str { ... }`: debugger data, not executed.
    fn section(&mut self) -> Result<()> {
        match self.cur.next() {
            Tok::Dir(_) | Tok::Word(_) => self.cur.skip_braces(),
            _ => self.cur.expected("a section's name before this"),
        }
    }

    /// `.alias name, function;`: both are already declared, the second has a body.
    fn alias(&mut self) -> Result<()> {
        self.cur.next();
        let alias = self.function_index()?;
        self.cur.expect(",")?;
        let target = self.function_index()?;
        let name = std::mem::take(&mut self.module.functions[alias].name);
        self.module.functions[alias] = Function { name, ..self.module.functions[target].clone() };
        self.cur.expect(";")
    }

    fn function_index(&mut self) -> Result<usize> {
        match self.cur.peek() {
            Tok::Word(w) if self.functions.contains_key(w) => {
                self.cur.next();
                Ok(self.functions[w] as usize)
            }
            _ => self.cur.expected("a declared function"),
        }
    }

    /// A variable, entry or function with its linkage.
    fn declaration(&mut self) -> Result<()> {
        let external = self.linkage();
        match self.cur.peek() {
            Tok::Dir(".entry") => self.function(true),
            Tok::Dir(".func") => self.function(false),
            Tok::Dir(name) => match space(name) {
                Some(space) if space != Space::Local && space != Space::Param => {
                    self.cur.next();
                    for var in self.cur.variables(space, external)? {
                        self.add_var(var)?;
                    }
                    Ok(())
                }
                _ => self.cur.expected("`.entry`, `.func`, `.global`, `.const` or `.shared`"),
            },
            _ => self.cur.expected("a declaration"),
        }
    }

    /// Takes `.visible`, `.extern`, `.weak`, `.common`; true if one is `.extern`.
    fn linkage(&mut self) -> bool {
        let mut external = false;
        while let Tok::Dir(name @ (".visible" | ".extern" | ".weak" | ".common")) = self.cur.peek() {
            external |= name == ".extern";
            self.cur.next();
        }
        external
    }

    /// Adds a module variable; a definition takes the place of its `.extern` declaration.
    fn add_var(&mut self, var: Var) -> Result<u32> {
        if let Some(&index) = self.vars.get(&var.name) {
            let old = &mut self.module.vars[index as usize];
            if !old.external && !var.external {
                return self.cur.error(format!("`{}` is declared twice", var.name));
            }
            if old.external {
                *old = var;
            }
            return Ok(index);
        }
        let index = self.module.vars.len() as u32;
        self.vars.insert(var.name.clone(), index);
        self.module.vars.push(var);
        Ok(index)
    }
}

/// The state space a directive names.
fn space(directive: &str) -> Option<Space> {
    Some(match directive {
        ".global" => Space::Global,
        ".const" => Space::Const,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}
