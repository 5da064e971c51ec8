//! Writes what is generated and committed: the C header, the text that cffi reads, and the
//! catalogue of nodes. With `--check` it writes nothing and fails if something is out of date.

use cbindgen::{Config, DocumentationLength, DocumentationStyle, ExportConfig, Language, Style};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The files of capi that declare something, in the order of the header.
const SOURCES: [&str; 13] = [
    "abi", "error", "data", "dlpack", "runtime", "pipeline", "run", "call", "session", "node",
    "queue", "log", "clear",
];

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let top = core.join("..");
    let catalogue = remotemedia_nodes::registry().to_json();
    let catalogue = serde_json::to_string_pretty(&catalogue).expect("JSON can be written");
    let files = [
        (top.join("include/remotemedia.h"), with_dlpack(&compact(&declare(&core, public())))),
        (top.join("include/remotemedia_cffi.h"), declare(&core, for_cffi())),
        (top.join("remotemedia/nodes/catalog.json"), catalogue + "\n"),
    ];
    let mut stale = false;
    for (path, text) in files {
        if fs::read_to_string(&path).is_ok_and(|held| held == text) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if check {
            eprintln!("{name} is out of date; run: make header");
            stale = true;
        } else {
            fs::write(&path, text).unwrap_or_else(|e| panic!("{name} cannot be written: {e}"));
            println!("wrote {name}");
        }
    }
    ExitCode::from(u8::from(stale))
}

/// The header that people read and compilers include.
fn public() -> Config {
    Config {
        header: Some(include_str!("rules.h").trim_end().to_owned()),
        include_guard: Some("REMOTEMEDIA_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        cpp_compat: true,
        documentation: true,
        documentation_style: DocumentationStyle::C,
        documentation_length: DocumentationLength::Full,
        export: ExportConfig::default(),
        ..for_cffi()
    }
}

/// The same declarations as cffi reads them: no directives but constants, no comments.
fn for_cffi() -> Config {
    Config {
        language: Language::C,
        style: Style::Both,
        no_includes: true,
        usize_is_size_t: true,
        documentation: false,
        line_length: 100,
        // Not a plain number in C, and cffi takes no other.
        export: ExportConfig { exclude: vec!["RM_NO_PTS".to_owned()], ..Default::default() },
        ..Config::default()
    }
}

/// The same header in fewer lines: a comment of one line on one line, constants without a blank
/// line between them.
fn compact(header: &str) -> String {
    let lines: Vec<&str> = header.lines().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let short = lines.get(at + 2).is_some_and(|end| end.trim() == "*/");
        if line.trim() == "/*" && short {
            out.push(format!("{line} {} */", lines[at + 1].trim()));
            at += 3;
            continue;
        }
        let between = line.is_empty() && out.last().is_some_and(|l| l.starts_with("#define RM_"));
        let more = lines[at..].iter().take(6).any(|next| next.starts_with("#define RM_"));
        if !(between && more) {
            out.push(line.to_owned());
        }
        at += 1;
    }
    out.join("\n") + "\n"
}

/// The header with DLPack's own structs only where DLPack's own header has not declared them.
fn with_dlpack(header: &str) -> String {
    let (first, last) = ("typedef struct DLPackVersion {", "} DLManagedTensorVersioned;\n");
    let before = header.find(first).and_then(|at| header[..at].rfind("/*"));
    let end = header.find(last).map(|at| at + last.len());
    let (start, end) = before.zip(end).expect("the structs of DLPack stand together");
    let (before, structs, after) = (&header[..start], &header[start..end], &header[end..]);
    format!(
        "{before}/*\n DLPack's structs, as its own header has them. Where you include that as well, do so \
         before\n this one.\n */\nstruct DLManagedTensorVersioned;\n#ifndef DLPACK_DLPACK_H_\n{structs}#endif  /* DLPACK_DLPACK_H_ */\n{after}",
    )
}

fn declare(core: &Path, config: Config) -> String {
    let source = |name: &str| -> PathBuf { core.join("capi/src").join(name).with_extension("rs") };
    let mut builder = cbindgen::Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(source(name));
    }
    let mut text = Vec::new();
    builder.generate().expect("the sources can be read").write(&mut text);
    String::from_utf8(text).expect("cbindgen writes UTF-8")
}
