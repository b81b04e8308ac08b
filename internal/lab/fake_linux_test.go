package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/lane"
	"github.com/govmi/govmi/internal/lab/wire"
)

// The tests of the host's side play the machine with this very program: it is started in place of the emulator, connects to the control
// port, writes a console, and answers jobs as its behaviour says.

const (
	emulatorArg = "-fake-emulator"    // be the emulator: control port and behaviour follow
	parentVar   = "GOVMI_TEST_PARENT" // run a session and print the emulator's process id
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 4 && os.Args[1] == emulatorArg:
		if err := emulate(os.Args[3], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "fake emulator:", err)
			os.Exit(1)
		}
	case os.Getenv(parentVar) != "":
		if err := beParent(); err != nil {
			fmt.Fprintln(os.Stderr, "parent:", err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// fakeSession starts a session with a fake emulator of the given behaviour.
func fakeSession(ctx context.Context, dir, behaviour string, progress func(string)) (*Session, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var disks [3]string
	for i, role := range []string{"job", "result", "kit"} {
		disks[i] = filepath.Join(dir, role+".img")
		if err := os.WriteFile(disks[i], make([]byte, 1<<20), 0o644); err != nil {
			return nil, err
		}
	}
	m, err := lane.Launch(ctx, dir, func(control string) ([]string, error) {
		return []string{self, emulatorArg, control, behaviour}, nil
	})
	if err != nil {
		return nil, err
	}
	s := newSession(m, lane.SVM, wire.XenPatched, dir, disks, progress, true)
	if err := s.waitForHello(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// fake is the state of a fake emulator; it runs in the session's folder.
type fake struct {
	behaviour string
	conn      net.Conn
	enc       *wire.Encoder
	dec       *wire.Decoder
}

func emulate(behaviour, addr string) error {
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	f := &fake{behaviour: behaviour, conn: conn, enc: wire.NewEncoder(conn), dec: wire.NewDecoder(conn)}
	f.console("(XEN) Xen version 4.17.7\n[    0.000000] Linux version 6.1.0\n")
	switch behaviour {
	case "boot: xen panics":
		f.console("(XEN) Panic on CPU 0:\n(XEN) the reason\n")
		select {}
	case "boot: dom0 fails":
		f.console("GOVMI-DOM0-FAILED: no xenfs\n")
		return nil
	case "boot: exits":
		return errors.New("no firmware")
	case "boot: other version":
		return errors.Join(f.enc.Encode(&wire.Hello{Version: wire.Version + 1}), f.serve())
	}
	f.console("GOVMI-DOM0-READY\n")
	if err := f.enc.Encode(&wire.Hello{Version: wire.Version}); err != nil {
		return err
	}
	return f.serve()
}

func (f *fake) console(text string) {
	c, err := os.OpenFile("console.log", os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		_, err = c.WriteString(text)
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		panic(err)
	}
}

func (f *fake) serve() error {
	for {
		m, err := f.dec.Decode()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *wire.PowerOff:
			return nil
		case *wire.Run:
			if err := f.run(m); err != nil {
				return err
			}
		}
	}
}

// run answers a job.
func (f *fake) run(m *wire.Run) error {
	done := &wire.Done{ID: m.ID}
	switch f.behaviour {
	case "xen panics":
		f.console("(XEN) ****************************************\n(XEN) Panic on CPU 1:\n")
		time.Sleep(2 * 50 * time.Millisecond) // the reason comes after the headline
		f.console("(XEN) the reason\n")
		return nil
	case "dom0 panics":
		f.console("[   12.345678] Kernel panic - not syncing: sysrq triggered crash\n")
		f.console(strings.Repeat("the stack goes on and on\n", 100))
		return nil
	case "dom0 ends":
		f.console("GOVMI-DOM0-FAILED: agent ended with status 1\n")
		os.Exit(0)
	case "dom0 powers off":
		os.Exit(0)
	case "emulator dies":
		return errors.New("assertion failed")
	case "port closes":
		if err := f.conn.Close(); err != nil {
			return err
		}
		select {}
	case "port garbles":
		_, err := f.conn.Write([]byte("[   13.1] tsc: marked unstable\n"))
		return err
	case "hangs":
		return nil
	case "agent starts anew":
		return f.enc.Encode(&wire.Hello{Version: wire.Version})
	case "job fails":
		done.Exit, done.Error = -1, "no such program"
	case "time is up":
		done.Exit, done.Signal, done.Error, done.TimedOut = -1, 15, "time is up after 1s", true
	case "guest panics":
		done.Exit, done.Error = -1, "kernel panic in guest g"
		err := f.enc.Encode(&wire.GuestPanic{ID: m.ID, Domain: "g", Tail: "Kernel panic - not syncing: Attempted to kill init!"})
		if err != nil {
			return err
		}
	case "guest writes about panic":
		f.console("(d1) Kernel panic - not syncing\n(XEN) d1v0 Kernel panic - not syncing\n")
	case "result damaged":
		if err := f.result(done, "stdout"); err != nil {
			return err
		}
		done.Sum++
	case "result outside":
		if err := f.result(done, "../../evil"); err != nil {
			return err
		}
	case "cancelled":
		sig, err := f.dec.Decode()
		if err != nil {
			return err
		}
		if s, ok := sig.(*wire.Signal); !ok || s.ID != m.ID {
			return fmt.Errorf("%s frame, want a signal", sig.Kind())
		}
		done.Exit, done.Signal = -1, int(syscall.SIGTERM)
	case "echoes":
		// The result is the job's tar: what came in goes back.
		disk, err := os.Open("job.img")
		if err != nil {
			return err
		}
		tarball := make([]byte, m.Length)
		if _, err := disk.ReadAt(tarball, wire.DiskDataOffset); err != nil {
			return err
		}
		if wire.Sum(tarball) != m.Sum {
			return errors.New("the job's sum is wrong")
		}
		if err := f.writeResult(done, tarball); err != nil {
			return err
		}
		if err := f.enc.Encode(&wire.Out{ID: m.ID, FD: 1, Data: []byte(strings.Join(m.Env, " "))}); err != nil {
			return err
		}
		done.Exit = 7
	default:
		return fmt.Errorf("no behaviour %q", f.behaviour)
	}
	return f.enc.Encode(done)
}

func (f *fake) result(done *wire.Done, name string) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "x"); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.writeResult(done, b.Bytes())
}

func (f *fake) writeResult(done *wire.Done, tarball []byte) error {
	disk, err := os.OpenFile("result.img", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = disk.WriteAt(tarball, wire.DiskDataOffset)
	done.Length, done.Sum = int64(len(tarball)), wire.Sum(tarball)
	return errors.Join(err, disk.Close())
}

// beParent holds a session, as command lab does, until a signal comes or it is killed.
func beParent() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	s, err := fakeSession(ctx, os.Getenv(parentVar), "hangs", func(string) {})
	if err != nil {
		return err
	}
	s.grace = 100 * time.Millisecond
	fmt.Println(s.PID())
	_, err = s.Run(ctx, &Job{Argv: []string{"x"}})
	if cerr := s.Close(); cerr != nil {
		return cerr
	}
	fmt.Println(err)
	return nil
}
