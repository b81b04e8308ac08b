package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procFiles are those of /proc that proc prints, links by their targets.
var procFiles = []string{
	"[0-9]*/stat", "[0-9]*/status", "[0-9]*/cmdline", "[0-9]*/environ", "[0-9]*/maps", "[0-9]*/mountinfo",
	"[0-9]*/fd/*", "[0-9]*/fdinfo/*", "[0-9]*/ns/*", "[0-9]*/cwd", "[0-9]*/root", "[0-9]*/exe", "[0-9]*/task/*/stat",
	"net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/raw", "net/unix", "net/netlink", "net/dev", "net/if_inet6",
	"modules", "uptime", "stat", "cmdline", "filesystems", "version",
}

// proc prints the guest's /proc as the kernel has it and waits for a file, so
// that a monitor can read the same from memory: "@proc begin", base64 lines of a
// gzipped tar archive, "@proc end pid=P". The archive has the kernel's log as
// kmsg, the modules' symbols as modsyms and the kprobes as kprobes. With -hold there are sockets, files and processes of many kinds.
func proc(args []string) error {
	flags := flag.NewFlagSet("proc", flag.ContinueOnError)
	wait := flags.String("wait", "", "the `file` to wait for")
	hold := flags.Bool("hold", false, "have sockets, files and processes of many kinds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *hold {
		release, err := holdMany()
		if err != nil {
			return err
		}
		defer release()
		if release, err = holdChildren(); err != nil {
			return err
		}
		defer release()
		if release, err = holdProbes(); err != nil {
			return err
		}
		defer release()
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	t := tar.NewWriter(z)
	for _, pattern := range procFiles {
		names, err := filepath.Glob("/proc/" + pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := archive(t, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if probes, err := os.ReadFile(debugfs + "/kprobes/list"); err == nil {
		if err := member(t, "kprobes", probes); err != nil {
			return err
		}
	}
	symbols, err := moduleSymbols()
	if err != nil {
		return err
	}
	if err := member(t, "modsyms", symbols); err != nil {
		return err
	}
	log, err := kmsg()
	if err != nil {
		return err
	}
	if err := errors.Join(member(t, "kmsg", log), t.Close(), z.Close()); err != nil {
		return err
	}
	var out bytes.Buffer
	fmt.Fprintln(&out, "@proc begin")
	const width = 57 * 16 // bytes in a line, a multiple of three
	for part := range slices.Chunk(buf.Bytes(), width) {
		out.WriteString(base64.StdEncoding.EncodeToString(part) + "\n")
	}
	fmt.Fprintf(&out, "@proc end pid=%d\n", os.Getpid())
	if _, err := os.Stdout.Write(out.Bytes()); err != nil {
		return err
	}
	for *wait != "" {
		if _, err := os.Stat(*wait); err == nil {
			return os.Remove(*wait)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// archive adds a file of /proc, unless it has gone meanwhile or the kernel has
// nothing to say: a kernel thread has no executable.
func archive(t *tar.Writer, name string) error {
	gone := func(err error) bool {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
	}
	short := strings.TrimPrefix(name, "/proc/")
	info, err := os.Lstat(name)
	if gone(err) {
		return nil
	} else if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(name)
		if gone(err) {
			return nil
		} else if err != nil {
			return err
		}
		return member(t, short, []byte(target))
	}
	b, err := os.ReadFile(name)
	if gone(err) {
		return nil
	} else if err != nil {
		return err
	}
	return member(t, short, b)
}

func member(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

// moduleSymbols returns the lines of /proc/kallsyms about modules.
func moduleSymbols() ([]byte, error) {
	all, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		return nil, err
	}
	var out []byte
	for line := range bytes.Lines(all) {
		if bytes.HasSuffix(line, []byte("]\n")) && !bytes.HasSuffix(line, []byte("[bpf]\n")) && !bytes.Contains(line, []byte("[__builtin__")) {
			out = append(out, line...)
		}
	}
	return out, nil
}

// kmsg returns the records of the kernel's log.
func kmsg() ([]byte, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var all []byte
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN:
			return all, nil
		case err == unix.EPIPE: // overwritten; the next one is read
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		default:
			all = append(all, buf[:n]...)
		}
	}
}
