package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A kind prepares whatever its call needs and returns a function that makes
// the call exactly once. Preparation makes none of the calls that are counted.
type kind func() (func() error, error)

var kinds = map[string]kind{
	"getppid": func() (func() error, error) {
		return func() error { unix.Getppid(); return nil }, nil
	},
	"getuid": func() (func() error, error) {
		return func() error { unix.Getuid(); return nil }, nil
	},
	"pread64": func() (func() error, error) {
		fd, err := unix.Open("/etc/hostname", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		buf := make([]byte, 16)
		return func() error { _, err := unix.Pread(fd, buf, 0); return err }, err
	},
	"read": func() (func() error, error) {
		fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		buf := make([]byte, 16)
		return func() error { _, err := unix.Read(fd, buf); return err }, err
	},
	"write": func() (func() error, error) {
		fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		buf := []byte("govmi workload\n")
		return func() error { _, err := unix.Write(fd, buf); return err }, err
	},
	"lseek": func() (func() error, error) {
		fd, err := unix.Open("/etc/hostname", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return func() error { _, err := unix.Seek(fd, 0, unix.SEEK_SET); return err }, err
	},
	// One close goes with every openat.
	"openat": func() (func() error, error) {
		return func() error {
			fd, err := unix.Openat(unix.AT_FDCWD, "/etc/hostname", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}, nil
	},
	// Fails by design: a traced error.
	"openat-enoent": func() (func() error, error) {
		return func() error {
			_, err := unix.Openat(unix.AT_FDCWD, "/no/such/file", unix.O_RDONLY, 0)
			if err == unix.ENOENT {
				return nil
			}
			return fmt.Errorf("openat of a missing file: %v", err)
		}, nil
	},
	"newfstatat": func() (func() error, error) {
		var st unix.Stat_t
		return func() error { return unix.Fstatat(unix.AT_FDCWD, "/etc/hostname", &st, 0) }, nil
	},
	"uname": func() (func() error, error) {
		var uts unix.Utsname
		return func() error { return unix.Uname(&uts) }, nil
	},
}

func kindNames() string {
	return strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
}

func findKind(name string) (kind, error) {
	k, ok := kinds[name]
	if !ok {
		return nil, fmt.Errorf("no kind %q; there are %s", name, kindNames())
	}
	return k, nil
}
