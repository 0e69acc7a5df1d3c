//! `exeat check`: what people, programs and CI are told of files, and with which exit code.

use crate::support::{exeat, finish, texts};
use std::{fs, path::Path};

fn check(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    texts(finish(exeat().current_dir(directory).arg("check").args(arguments)))
}

#[test]
fn findings_have_a_place_a_fix_and_an_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("allowlist.yaml");
    fs::write(&file, "- a.test\n- \"*.b.test\"\n").unwrap();
    let (code, out, _) = check(directory.path(), &[]);
    assert_eq!((code, out.as_str()), (Some(0), "1 file, 2 entries: nothing to mend\n"));
    fs::write(&file, "- a.test\n- \"*.github.io\"\n").unwrap();
    let (code, out, _) = check(directory.path(), &["allowlist.yaml"]);
    assert_eq!(code, Some(0), "a warning stops nobody");
    assert!(out.contains("warning: [host-shared-tenant]") && out.contains("allowlist.yaml:2:3"), "{out}");
    assert!(out.ends_with("1 file, 2 entries: 0 errors, 1 warning (exeat check --explain CODE says more)\n"));
    assert_eq!(check(directory.path(), &["--strict"]).0, Some(1));
    fs::write(&file, "- a.test\n- *.b.test\n").unwrap();
    let (code, out, _) = check(directory.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("error: [yaml-unquoted-star]") && out.contains("write \"*.b.test\" with quotes"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "no colour where no terminal is");
    let (code, out, _) = check(directory.path(), &["--json"]);
    assert_eq!(code, Some(1));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["files"], &report["entries"]), (&1.into(), &serde_json::Value::Null));
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["path"], &finding["line"], &finding["column"], &finding["severity"], &finding["code"]),
        (&"allowlist.yaml".into(), &2.into(), &3.into(), &"error".into(), &"yaml-unquoted-star".into())
    );
    let (code, out, _) = check(directory.path(), &["--format", "github"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("::error file=allowlist.yaml,line=2,col=3,title=yaml-unquoted-star::"), "{out}");
    assert_eq!(out.lines().count(), 1);
}

#[test]
fn files_that_others_can_change_are_pointed_out() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("allowlist.yaml");
    fs::write(&file, "- a.test\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, out, _) = check(directory.path(), &["--strict"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("[file-exposed] everybody on the machine may write the file"), "{out}");
    assert_eq!(check(directory.path(), &["--strict", "--accept-exposed-files"]).0, Some(0));
}

#[test]
fn several_files_and_directories_are_one_allowlist() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("teams")).unwrap();
    fs::write(directory.path().join("teams/a.yaml"), "- a.test\n- both.test\n").unwrap();
    fs::write(directory.path().join("teams/b.yml"), "- both.test\n").unwrap();
    fs::write(directory.path().join("more.yaml"), "- c.test:70000\n").unwrap();
    let (code, out, _) = check(directory.path(), &["teams"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("already listed by a.yaml:2") && out.contains("2 files, 2 entries: 0 errors, 1 warning"),
        "{out}"
    );
    let (code, out, _) = check(directory.path(), &["teams", "more.yaml"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("more.yaml:1:3") && out.contains("3 files: 1 error, 1 warning"), "{out}");
}

#[test]
fn what_cannot_be_read_is_no_finding() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = check(directory.path(), &["missing.yaml"]);
    assert_eq!(code, Some(2));
    assert!(out.contains("[unreadable]") && out.contains("missing.yaml"), "{out}");
}

#[test]
fn codes_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let (code, out, _) = check(directory.path(), &["--explain", "host-wildcard"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("host-wildcard: `*` stands alone"), "{out}");
    let (code, _, err) = check(directory.path(), &["--explain", "no-such-code"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("`no-such-code` is no code; the codes are: address-private, "), "{err}");
}
