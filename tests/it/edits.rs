//! Every way in which a file is edited, on the real server.

use crate::support::{Block, ControlPlane, command, wait_until};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// A server on `path` below its directory, which `prepare` fills with one entry.
fn server(path: &str, prepare: impl FnOnce(&Path)) -> ControlPlane {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &["--allowlist", path]);
    prepare(server.directory());
    server.launch();
    server.wait_for_entries(1);
    server
}

fn file_server() -> ControlPlane {
    server("allowlist.yaml", |directory| fs::write(directory.join("allowlist.yaml"), "- a.test\n").unwrap())
}

#[test]
fn in_place() {
    let server = file_server();
    fs::write(server.allowlist(), "- a.test\n- b.test\n").unwrap();
    server.wait_for_entries(2);
    let mut file = OpenOptions::new().append(true).open(server.allowlist()).unwrap();
    writeln!(file, "- c.test").unwrap();
    drop(file);
    server.wait_for_entries(3);
}

#[test]
fn sed_in_place_twice() {
    let server = file_server();
    for entries in [2, 3] {
        let script = format!("$a - host{entries}.test");
        assert!(command("sed", &["-i", &script, server.allowlist().to_str().unwrap()]).status.success());
        server.wait_for_entries(entries);
    }
}

#[test]
fn renamed_over_twice() {
    let server = file_server();
    server.write_by_rename("- a.test\n- b.test\n");
    server.wait_for_entries(2);
    server.write_by_rename("- a.test\n- b.test\n- c.test\n");
    server.wait_for_entries(3);
}

/// What vim does with `backupcopy=no`: move the file aside, write a new one, delete the old one.
#[test]
fn moved_aside_and_written_anew() {
    let server = file_server();
    let version = server.version();
    for entries in [2, 3] {
        let backup = server.directory().join("allowlist.yaml~");
        fs::rename(server.allowlist(), &backup).unwrap();
        let text: String = (0..entries).map(|n| format!("- h{n}.test\n")).collect();
        fs::write(server.allowlist(), text).unwrap();
        fs::remove_file(backup).unwrap();
        server.wait_for_entries(entries);
    }
    assert_ne!(server.version(), version);
    assert_eq!(
        server.metric("exeat_allowlist_edits_total{outcome=\"applied\"}"),
        3.0,
        "nothing in between was seen"
    );
}

/// A ConfigMap: files are links into `..data`, which is a link that is swapped.
#[test]
fn configmap_swap() {
    let write = |directory: &Path, name: &str, text: &str| {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("list.yaml"), text).unwrap();
        symlink(name, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let server = server("config", |directory| {
        let config = directory.join("config");
        fs::create_dir(&config).unwrap();
        write(&config, "..one", "- a.test\n");
        symlink("..data/list.yaml", config.join("list.yaml")).unwrap();
    });
    let config = server.directory().join("config");
    write(&config, "..two", "- a.test\n- b.test\n");
    fs::remove_dir_all(config.join("..one")).unwrap();
    server.wait_for_entries(2);
    write(&config, "..three", "- a.test\n- b.test\n- c.test\n");
    fs::remove_dir_all(config.join("..two")).unwrap();
    server.wait_for_entries(3);
}

/// A link above the directory is swapped: no file event at all.
#[test]
fn directory_symlink_swap() {
    let server = server("current", |directory| {
        for (name, text) in [("one", "- a.test\n"), ("two", "- a.test\n- b.test\n")] {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("list.yaml"), text).unwrap();
        }
        symlink("one", directory.join("current")).unwrap();
    });
    let directory = server.directory();
    symlink("two", directory.join("next")).unwrap();
    fs::rename(directory.join("next"), directory.join("current")).unwrap();
    server.wait_for_entries(2);
    fs::write(directory.join("two/list.yaml"), "- a.test\n- b.test\n- c.test\n").unwrap();
    server.wait_for_entries(3);
}

#[test]
fn directory_deleted_and_created_again() {
    let server = server("lists", |directory| {
        fs::create_dir(directory.join("lists")).unwrap();
        fs::write(directory.join("lists/a.yaml"), "- a.test\n").unwrap();
    });
    let (lists, version) = (server.directory().join("lists"), server.version());
    fs::remove_dir_all(&lists).unwrap();
    wait_until("the loss is seen", || server.status()["files"][0]["in_force"] == false);
    assert_eq!(server.version(), version, "what was enforced stays");
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("a.yaml"), "- a.test\n- b.test\n").unwrap();
    server.wait_for_entries(2);
    fs::write(lists.join("a.yaml"), "- a.test\n- b.test\n- c.test\n").unwrap();
    server.wait_for_entries(3);
}

#[test]
fn files_come_and_go() {
    let server = server("lists", |directory| {
        fs::create_dir(directory.join("lists")).unwrap();
        fs::write(directory.join("lists/a.yaml"), "- a.test\n").unwrap();
        fs::write(directory.join("lists/.hidden.yaml"), "- hidden.test\n").unwrap();
        fs::write(directory.join("lists/README.md"), "no list\n").unwrap();
    });
    let lists = server.directory().join("lists");
    fs::write(lists.join("b.yml"), "- b.test\n- a.test\n").unwrap();
    server.wait_for_entries(2);
    fs::remove_file(lists.join("a.yaml")).unwrap();
    wait_until("the removal is an edit", || server.status()["files"].as_array().unwrap().len() == 1);
    server.wait_for_entries(2);
    fs::remove_file(lists.join("b.yml")).unwrap();
    wait_until("an empty directory is an error", || server.status()["files"][0]["in_force"] == false);
    assert_eq!(server.status()["entries"], 2, "and never an empty list");
}

/// A file that is half-written is never read, however slow its writer.
#[test]
fn slow_writer() {
    let server = file_server();
    let mut file = File::create(server.allowlist()).unwrap();
    let end = Instant::now() + Duration::from_millis(2500);
    let mut lines = 0;
    while Instant::now() < end {
        writeln!(file, "- host{lines}.test").unwrap();
        file.flush().unwrap();
        lines += 1;
        // The writer's own pace, longer than a tick now and then.
        thread::sleep(Duration::from_millis(if lines % 3 == 0 { 1100 } else { 40 }));
        assert_eq!(server.status()["entries"], 1, "after {lines} lines");
    }
    drop(file);
    server.wait_for_entries(lines);
    assert_eq!(server.metric("exeat_allowlist_edits_total{outcome=\"applied\"}"), 2.0);
}

#[test]
fn comments_and_reordering_change_no_meaning() {
    let server = server("allowlist.yaml", |directory| {
        fs::write(directory.join("allowlist.yaml"), "- a.test\n").unwrap();
    });
    let version = server.version();
    fs::write(server.allowlist(), "# why\n- a.test\n").unwrap();
    wait_until("the moved line is served", || server.version() != version);
    let line = server.process().wait_for("the edit", |line| line.contains("allowlist edit"));
    assert!(line.contains("no change in meaning"), "{line}");
    let version = server.version();
    server.write_by_rename("# why\n- a.test # because\n");
    server.write_by_rename("# why\n- a.test\n- b.test\n");
    server.wait_for_entries(2);
    assert_ne!(server.version(), version);
}

#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let block = Block::claim();
    let mut server = ControlPlane::prepared(&block, &[]);
    let path: PathBuf = server.allowlist();
    assert!(command("mkfifo", &[path.to_str().unwrap()]).status.success());
    server.launch();
    assert_eq!(server.ask("/readyz").0, 503);
    let place = server.status()["files"][0]["diagnostics"][0].as_str().unwrap().to_owned();
    assert!(place.contains("not a regular file"), "{place}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "- a.test\n").unwrap();
    server.wait_for_entries(1);
    assert_eq!(server.ask("/readyz").0, 200);
}

/// Editors write backups and swap files while they save in place; their events must not show the file half-written.
#[test]
fn noise_beside_the_file_shows_no_half_written_one() {
    let server = file_server();
    let noise = server.directory().join("noise");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&noise, "x").unwrap();
                fs::rename(&noise, noise.with_extension("bak")).unwrap();
            }
        });
        for entries in 2..60 {
            let mut file = File::create(server.allowlist()).unwrap();
            // Empty for as long as an editor needs; the noise makes the server look right then.
            thread::sleep(Duration::from_millis(3));
            let text: String = (0..entries).map(|n| format!("- h{n}.test\n")).collect();
            file.write_all(text.as_bytes()).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    server.wait_for_entries(59);
    let (_, metrics) = server.ask("/metrics");
    assert!(!metrics.contains("outcome=\"rejected\""), "{metrics}");
}

/// A removal is a revocation: a file that somebody rewrites without a pause must not hold it back.
#[test]
fn a_busy_file_does_not_hold_back_a_removal() {
    let server = server("lists", |directory| {
        fs::create_dir(directory.join("lists")).unwrap();
        fs::write(directory.join("lists/old.yaml"), "- old.test\n").unwrap();
    });
    let lists = server.directory().join("lists");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                fs::write(lists.join("busy.yaml"), format!("- h{number}.test\n")).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        server.wait_for_entries(2);
        fs::remove_file(lists.join("old.yaml")).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let gone = loop {
            let gone = server.status()["entries"] == 1;
            if gone || Instant::now() > end {
                break gone;
            }
            thread::sleep(Duration::from_millis(20));
        };
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        assert!(gone, "the removal waits for the writer");
    });
}
