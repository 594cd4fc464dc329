//! Values that a function of a type could answer, whatever it was asked.

use syn::{GenericArgument, PathArguments, Type};

/// How many mutants the body of one function becomes at most.
const VALUES_MAX: usize = 4;

/// The values of a type, as expressions; none where there is no plausible one.
pub fn values(of: &Type) -> Vec<String> {
    let mut values = match of {
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Vec::new() };
            let inner = || match &last.arguments {
                PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
                    Some(GenericArgument::Type(inner)) => values(inner),
                    _ => vec!["Default::default()".to_owned()],
                },
                _ => vec!["()".to_owned()],
            };
            let within = |outer: &str| inner().iter().map(|value| outer.replace('_', value)).collect();
            match last.ident.to_string().as_str() {
                "bool" => texts(&["true", "false"]),
                "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => texts(&["0", "1"]),
                "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => texts(&["0", "1", "-1"]),
                "String" => texts(&["String::new()", "String::from(\"?\")"]),
                "Vec" => [texts(&["Vec::new()"]), within("vec![_]")].concat(),
                "Option" => [texts(&["None"]), within("Some(_)")].concat(),
                "Result" => within("Ok(_)"),
                "Box" => within("Box::new(_)"),
                "Arc" => within("std::sync::Arc::new(_)"),
                _ => texts(&["Default::default()"]),
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter().map(values).fold(vec![String::new()], |rows, column| {
            rows.iter().flat_map(|row| column.iter().map(move |value| format!("{row}{value}, "))).collect()
        }),
        Type::Array(array) => {
            values(&array.elem).into_iter().map(|value| format!("std::array::from_fn(|_| {value})")).collect()
        }
        Type::Reference(reference) => match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => texts(&["\"\"", "\"?\""]),
            Type::Slice(_) => texts(&["Vec::leak(Vec::new())"]),
            inner => values(inner).iter().map(|value| format!("Box::leak(Box::new({value}))")).collect(),
        },
        _ => Vec::new(),
    };
    if matches!(of, Type::Tuple(_)) {
        values.iter_mut().for_each(|row| *row = format!("({row})"));
    }
    values.truncate(VALUES_MAX);
    values
}

/// Whether the body of a function is this value and nothing else.
pub fn is_value(body: &str, value: &str) -> bool {
    let inside = body.trim_start_matches('{').trim_end_matches('}').trim();
    inside == value || value == "()" && inside.is_empty()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}
