//! Where a socket can be.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn bind(path: &Path) -> Result<Listener, ListenError> {
    Listener::bind(path)
}

#[test]
fn a_socket_goes_with_its_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let listener = bind(&path).unwrap();
    assert!(path.exists());
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn an_owners_socket_is_nobody_elses_and_is_found_by_a_long_path_too() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let path = deep.join("api.sock");
    let listener = Listener::bind_for_owner(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let _program = connect_to(&path).unwrap();
    listener.socket().unwrap().accept().unwrap();
    assert_eq!(listener.accept().unwrap_err(), Errno::AGAIN);
}

#[test]
fn a_socket_that_is_somebody_elses_by_now_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let listener = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
}

#[test]
fn a_socket_at_which_nobody_listens_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(listener);
}

#[test]
fn a_socket_at_which_somebody_listens_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let _other = bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!("{} is in use by another program", path.display())
    );
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    fs::write(&path, "precious").unwrap();
    let error = bind(&path).unwrap_err();
    assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = bind(&link).unwrap_err();
    assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
}

#[test]
fn a_path_longer_than_an_address_works_and_a_name_longer_than_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    let path = deep.join("v.sock");
    let listener = bind(&path).unwrap();
    assert!(path.exists());
    let port = UnixListener::bind(folder.path().join("short")).unwrap();
    fs::rename(folder.path().join("short"), deep.join("v.sock_52")).unwrap();
    listener.connect_to(52).unwrap();
    port.accept().unwrap();
    drop(listener);
    assert!(!path.exists());
    let error = bind(&deep.join("n".repeat(90))).unwrap_err();
    assert!(matches!(error, ListenError::TooLong { .. }), "{error}");
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_says_where() {
    let error = bind(Path::new("/nowhere/at/all/v.sock")).unwrap_err();
    assert_eq!(error.to_string(), "cannot listen at /nowhere/at/all/v.sock");
    assert!(bind(Path::new("/")).is_err());
}

#[test]
fn of_many_that_start_at_once_one_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    drop(UnixListener::bind(&path).unwrap());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || bind(&path))
        })
        .collect();
    let bound: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(bound.iter().filter(|it| it.is_ok()).count(), 1);
    UnixStream::connect(&path).unwrap();
}
