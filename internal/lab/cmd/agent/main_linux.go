// Command agent runs in the lab's dom0 and serves jobs, see package agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/lab/agent"
	"github.com/govmi/govmi/internal/lab/wire"
)

const (
	port    = "/dev/ttyS1"
	kitDir  = "/lab"
	diskMax = 30 * time.Second
)

func main() {
	err := run()
	if errors.Is(err, agent.ErrPowerOff) {
		unix.Sync()
		err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	fmt.Fprintln(os.Stderr, "agent:", err)
	os.Exit(1)
}

func run() (err error) {
	serial, err := agent.OpenSerial(port)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, serial.Close()) }()
	enc := wire.NewEncoder(serial)
	if err := enc.Encode(&wire.Progress{Text: "dom0 is up, looking for the disks"}); err != nil {
		return err
	}
	disks, err := disks()
	if err != nil {
		return errors.Join(err, enc.Encode(&wire.Progress{Text: err.Error()}))
	}
	if err := enc.Encode(&wire.Progress{Text: "mounting the kit"}); err != nil {
		return err
	}
	if err := agent.MountKit(disks[wire.RoleKit], kitDir); err != nil {
		return errors.Join(err, enc.Encode(&wire.Progress{Text: err.Error()}))
	}
	return agent.Serve(context.Background(), agent.Config{
		Port:         serial,
		Job:          disks[wire.RoleJob],
		Result:       disks[wire.RoleResult],
		WorkDir:      "/tmp",
		ConsoleDir:   "/var/log/xen",
		Hello:        hello(),
		AfterFailure: agent.DestroyGuests,
	})
}

func disks() (map[wire.Role]*agent.Disk, error) {
	ctx, cancel := context.WithTimeout(context.Background(), diskMax)
	defer cancel()
	return agent.FindDisks(ctx, wire.RoleJob, wire.RoleResult, wire.RoleKit)
}

func hello() wire.Hello {
	h := wire.Hello{Version: wire.Version}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	h.Xen = xenVersion()
	return h
}

// xenVersion is for a person's eyes; empty if the kernel does not tell.
func xenVersion() string {
	var parts []string
	for _, name := range []string{"major", "minor", "extra"} {
		b, err := os.ReadFile("/sys/hypervisor/version/" + name)
		if err != nil {
			return ""
		}
		parts = append(parts, strings.TrimSpace(string(b)))
	}
	return parts[0] + "." + parts[1] + parts[2]
}
