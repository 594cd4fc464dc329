//! Puts every mutant of a source file into it at once, each asleep until its number is asked for.
//!
//! Text is put in at places only, so that lines stay lines and what is nested stays nested. What belongs to a mutant stands
//! between `/*< NUMBERS*/` and `/*>*/`, so that an error of the compiler leads to the mutants that do not compile.

use crate::values::{is_value, values};
use proc_macro2::Span;
use std::collections::BTreeSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, Pat, ReturnType, Signature, Stmt, UnOp};

/// One place where the code is broken, in one way.
pub struct Mutant {
    pub number: u32,
    pub file: String,
    /// Where, and what is put there.
    pub title: String,
}

/// What is not to be put in.
#[derive(Default)]
pub struct Left {
    /// The mutants that do not compile.
    pub mutants: BTreeSet<u32>,
    /// The functions that constants call, by name: they stay `const`, and are not mutated.
    pub constants: BTreeSet<String>,
}

/// The file with its mutants; they are told of in `mutants`, also those that are left out.
pub fn rewrite(
    file: &str,
    source: &str,
    left: &Left,
    mutants: &mut Vec<Mutant>,
) -> Result<String, syn::Error> {
    let tree = syn::parse_file(source)?;
    let mut rewriter =
        Rewriter { source, file, left, mutants, edits: Vec::new(), asleep: false, function: String::new() };
    rewriter.visit_file(&tree);
    let mut edits = rewriter.edits;
    edits.sort_by_key(|edit| (edit.place.start, edit.rank));
    let (mut text, mut at) = (String::new(), 0);
    for Edit { place, text: inserted, .. } in edits {
        assert!(at <= place.start, "{file}: edits overlap at {}", place.start);
        text.push_str(&source[at..place.start]);
        text.push_str(&inserted);
        at = place.end;
    }
    text.push_str(&source[at..]);
    Ok(text)
}

struct Edit {
    /// What is replaced; empty where something is put in.
    place: Range<usize>,
    /// At one place: what ends, the inner first, before what begins, the outer first.
    rank: i64,
    text: String,
}

struct Rewriter<'a> {
    source: &'a str,
    file: &'a str,
    left: &'a Left,
    mutants: &'a mut Vec<Mutant>,
    edits: Vec<Edit>,
    /// In a function that stays constant: mutants are counted, but not put in.
    asleep: bool,
    function: String,
}

impl Rewriter<'_> {
    /// Numbers these mutants, and answers those that are put in.
    fn number<T>(&mut self, at: Span, ways: Vec<(String, T)>) -> Vec<(u32, T)> {
        let mut live = Vec::new();
        for (what, way) in ways {
            let number = u32::try_from(self.mutants.len()).expect("a crate has fewer mutants");
            let title = format!("{}:{}: {}: {what}", self.file, at.start().line, self.function);
            self.mutants.push(Mutant { number, file: self.file.to_owned(), title });
            if !self.asleep && !self.left.mutants.contains(&number) {
                live.push((number, way));
            }
        }
        live
    }

    /// Texts for places, in their order: the first begins what the others go on with and end.
    fn edit<const N: usize>(&mut self, texts: [(Range<usize>, String); N]) {
        let order = i64::try_from(self.edits.len()).expect("a file has fewer edits") + 1;
        for (index, (place, text)) in texts.into_iter().enumerate() {
            self.edits.push(Edit { place, rank: if index == 0 { order } else { -order }, text });
        }
    }

    /// An expression of two that is put together in another way.
    fn binary(&mut self, whole: &Expr, left: &Expr, op: BinOp, right: &Expr) {
        let written = self.source[op.span().byte_range()].to_owned();
        let (is_compared, is_assigned) = (COMPARISONS.contains(&&*written), is_assigning(&written));
        let ways = if is_assigned { ways_of(written.trim_end_matches('=')) } else { ways_of(&written) };
        let ways = ways.iter().map(|way| {
            let way = if is_assigned { format!("{way}=") } else { (*way).to_owned() };
            (format!("{written} by {way}"), way)
        });
        let live = self.number(op.span(), ways.collect());
        let Some((first, _)) = live.first() else { return };
        let (all, whole) = (numbers(&live), whole.span().byte_range());
        let [left, right] = [left.span().byte_range(), right.span().byte_range()];
        let target = self.source[left.clone()].to_owned();
        let choice = |left: &str| {
            let ways = live.iter().map(|(number, way)| {
                format!("if crate::mutants::is({number}) {{ /*< {number}*/{left} {way} __r/*>*/ }} else ")
            });
            format!("{}{{ {left} {written} __r }}", ways.collect::<String>())
        };
        // Each side is written once, and worked out once and in its order.
        let [open, middle, close] = match op {
            BinOp::And(_) | BinOp::Or(_) => {
                let same = if matches!(op, BinOp::And(_)) { "!=" } else { "==" };
                let middle = format!("; if __l {same} crate::mutants::is({first}) {{ ");
                [format!("/*< {all}*/({{ let __l = "), middle, " } else { __l } })/*>*/".to_owned()]
            }
            _ if is_assigned => {
                let close = format!(" {{ __r => {} }})/*>*/", choice(&target));
                let open = format!("/*< {all}*/(match ");
                // The target is written in the choice alone.
                self.edit([(left.start..right.start, open), (whole.end..whole.end, close)]);
                return;
            }
            _ => {
                let by = if is_compared { "&" } else { "" };
                let close = format!(")) {{ (__l, __r) => {} }})/*>*/", choice("__l"));
                [format!("/*< {all}*/(match ({by}("), format!("), {by}("), close]
            }
        };
        self.edit([
            (whole.start..whole.start, open),
            (left.end..right.start, middle),
            (whole.end..whole.end, close),
        ]);
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let name = signature.ident.to_string();
        let before = (self.asleep, std::mem::replace(&mut self.function, name.clone()));
        if let Some(constant) = signature.constness {
            self.asleep |= self.left.constants.contains(&name);
            if !self.asleep {
                let place = constant.span.byte_range();
                self.edit([(place.start..place.end + 1, String::new())]);
            }
        }
        let text = self.source[body.span().byte_range()].to_owned();
        let answers = match &signature.output {
            ReturnType::Default => vec!["()".to_owned()],
            ReturnType::Type(_, answer) => values(answer),
        };
        let ways = answers.into_iter().filter(|value| !is_value(&text, value));
        let ways = ways.map(|value| (format!("body by {value}"), value)).collect();
        let live = self.number(signature.ident.span(), ways);
        let (all, inside) = (numbers(&live), body.span().byte_range());
        let ways = live.iter().map(|(number, value)| {
            format!(" if crate::mutants::is({number}) {{ /*< {number}*/return {value};/*>*/ }}")
        });
        let open = format!("/*< {all}*/{}", ways.collect::<String>());
        if !self.asleep {
            let [start, end] = [inside.start + 1, inside.end - 1];
            self.edit([(start..start, open), (end..end, "/*>*/".to_owned())]);
        }
        visit::visit_block(self, body);
        (self.asleep, self.function) = before;
    }
}

impl<'ast> Visit<'ast> for Rewriter<'_> {
    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        // The conditions of a `let` chain are no value.
        if !holds_let(&node.left) && !holds_let(&node.right) {
            self.binary(&Expr::Binary(node.clone()), &node.left, node.op, &node.right);
        }
        if !is_assigning(&self.source[node.op.span().byte_range()]) {
            self.visit_expr(&node.left);
        }
        self.visit_expr(&node.right);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let sign = self.source[node.op.span().byte_range()].to_owned();
        if matches!(node.op, UnOp::Not(_) | UnOp::Neg(_)) {
            let live = self.number(node.op.span(), vec![(format!("{sign} by nothing"), ())]);
            if let Some((number, ())) = live.first() {
                let [whole, inner] = [node.span().byte_range(), node.expr.span().byte_range()];
                let open = format!("/*< {number}*/(match ");
                let choice = format!("if crate::mutants::is({number}) {{ __x }} else {{ {sign}__x }}");
                let close = format!(" {{ __x => {choice} }})/*>*/");
                self.edit([(whole.start..inner.start, open), (whole.end..whole.end, close)]);
            }
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        let has_rest =
            node.arms.last().is_some_and(|arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none());
        for (index, arm) in node.arms.iter().enumerate() {
            match &arm.guard {
                Some((_, guard)) if !holds_let(guard) => {
                    let ways = vec![("guard by true".to_owned(), true), ("guard by false".to_owned(), false)];
                    let live = self.number(guard.span(), ways);
                    let asked = live.iter().map(|(number, taken)| {
                        let [not, or] = if *taken { ["", "||"] } else { ["!", "&&"] };
                        format!("{not}crate::mutants::is({number}) {or} ")
                    });
                    let open = format!("/*< {}*/({}(", numbers(&live), asked.collect::<String>());
                    let place = guard.span().byte_range();
                    if !live.is_empty() {
                        self.edit([
                            (place.start..place.start, open),
                            (place.end..place.end, "))/*>*/".to_owned()),
                        ]);
                    }
                }
                None if has_rest && index + 1 < node.arms.len() => {
                    for (number, ()) in self.number(arm.pat.span(), vec![("arm deleted".to_owned(), ())]) {
                        let end = arm.pat.span().byte_range().end;
                        let guard = format!(" /*< {number}*/if !crate::mutants::is({number})/*>*/");
                        self.edit([(end..end, guard)]);
                    }
                }
                _ => {}
            }
        }
        visit::visit_expr_match(self, node);
    }

    fn visit_stmt(&mut self, node: &'ast Stmt) {
        if let Stmt::Expr(expression, Some(_)) = node
            && is_deed(expression)
        {
            let ways = vec![("statement deleted".to_owned(), ())];
            for (number, ()) in self.number(expression.span(), ways) {
                let place = node.span().byte_range();
                let open = format!("/*< {number}*/if !crate::mutants::is({number}) {{ ");
                self.edit([(place.start..place.start, open), (place.end..place.end, " }/*>*/".to_owned())]);
            }
        }
        visit::visit_stmt(self, node);
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        if !is_test(&node.attrs) {
            self.function(&node.sig, &node.block);
        }
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if !is_test(&node.attrs) {
            self.function(&node.sig, &node.block);
        }
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        let shown = node.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        if !is_test(&node.attrs)
            && !shown.is_some_and(|name| name.ident == "Debug" || name.ident == "Display")
        {
            visit::visit_item_impl(self, node);
        }
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_test(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
    }

    // What the compiler works out, and what is no expression.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
}

fn numbers<T>(live: &[(u32, T)]) -> String {
    live.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(" ")
}

const COMPARISONS: [&str; 6] = ["==", "!=", "<", ">", "<=", ">="];

/// What is put in the place of an operator.
fn ways_of(operator: &str) -> &'static [&'static str] {
    match operator {
        "==" => &["!="],
        "!=" => &["=="],
        "<" => &["==", ">", "<="],
        ">" => &["==", "<", ">="],
        "<=" => &[">", "<"],
        ">=" => &["<", ">"],
        "&&" => &["||"],
        "||" => &["&&"],
        "+" => &["-", "*"],
        "-" | "*" => &["+", "/"],
        "/" => &["%", "*"],
        "%" => &["/", "+"],
        "&" => &["|", "^"],
        "|" => &["&", "^"],
        "^" => &["|", "&"],
        "<<" => &[">>"],
        ">>" => &["<<"],
        _ => &[],
    }
}

/// Whether an operator writes to its left side, which is then put down as it stands.
fn is_assigning(operator: &str) -> bool {
    operator.ends_with('=') && !COMPARISONS.contains(&operator)
}

fn holds_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(both) => holds_let(&both.left) || holds_let(&both.right),
        _ => false,
    }
}

/// Whether an expression is there for what it does: a call, or an assignment.
fn is_deed(expression: &Expr) -> bool {
    match expression {
        Expr::Call(_) | Expr::MethodCall(_) | Expr::Assign(_) => true,
        Expr::Try(tried) => is_deed(&tried.expr),
        _ => false,
    }
}

/// Whether an item is there in tests alone.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_test = |path: &syn::Path| path.is_ident("test");
        is_test(attribute.path())
            || attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|path| is_test(&path))
    })
}
