// Package labtest starts guests for tests that run in the lab's dom0. Its users
// carry the build tag lab, so that they are neither built nor skipped elsewhere.
package labtest

import (
	"context"
	"fmt"
	"hash/fnv"
	"regexp"
	"testing"
	"time"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/xen"
)

const (
	// bootTime bounds a guest's boot under the slower emulator.
	bootTime = 5 * time.Minute
	// undoTime bounds a guest's destruction.
	undoTime = time.Minute
)

// Guest is a [guest.Guest] whose errors fail the test, with the console's tail.
type Guest struct {
	*guest.Guest
	tb testing.TB
}

// Command is a shell command running in a [Guest].
type Command struct {
	*guest.Command
	guest *Guest
}

// StartGuest starts a guest of the test's own and destroys it at the test's
// end. A spec without a name gets one.
func StartGuest(tb testing.TB, spec guest.Spec) *Guest {
	tb.Helper()
	return own(tb, spec, guest.Start)
}

// CreatePaused makes a guest that has not run a single instruction; it is
// destroyed at the test's end.
func CreatePaused(tb testing.TB, spec guest.Spec) *Guest {
	tb.Helper()
	return own(tb, spec, guest.Create)
}

func own(tb testing.TB, spec guest.Spec, make func(context.Context, guest.Spec) (*guest.Guest, error)) *Guest {
	tb.Helper()
	if spec.Name == "" {
		h := fnv.New32a()
		_, _ = h.Write([]byte(tb.Name())) // never fails, says hash.Hash
		spec.Name = fmt.Sprintf("t-%08x", h.Sum32())
	}
	ctx, cancel := context.WithTimeout(tb.Context(), bootTime)
	defer cancel()
	g, err := make(ctx, spec)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), undoTime)
		defer cancel()
		if err := g.Destroy(ctx); err != nil {
			tb.Error(err)
		}
	})
	return watch(tb, g)
}

// SharedGuest returns a guest that all tests of the boot with the same
// specification use, because a guest takes long to start under an emulator.
// Tests leave it as they found it: no monitor attached, running, no process of
// theirs left. A failed job destroys it.
func SharedGuest(tb testing.TB, spec guest.Spec) *Guest {
	tb.Helper()
	if spec.Name == "" {
		spec.Name = "shared"
	}
	ctx, cancel := context.WithTimeout(tb.Context(), bootTime)
	defer cancel()
	g, err := guest.Shared(ctx, spec)
	if err != nil {
		tb.Fatal(err)
	}
	return watch(tb, g)
}

// watch attaches the console to a failure.
func watch(tb testing.TB, g *guest.Guest) *Guest {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("console of guest %s:\n%s", g.Name(), g.Console().Tail())
		}
	})
	return &Guest{Guest: g, tb: tb}
}

// DomID is the domain's number.
func (g *Guest) DomID() xen.DomID { return g.Guest.DomID() }

// Exec runs a bash command in the guest and returns what it printed and its
// exit status.
func (g *Guest) Exec(ctx context.Context, command string) (out string, status int) {
	g.tb.Helper()
	out, status, err := g.Guest.Exec(ctx, command)
	if err != nil {
		g.tb.Fatal(err)
	}
	return out, status
}

// MustExec is Exec of a command that must succeed.
func (g *Guest) MustExec(ctx context.Context, command string) string {
	g.tb.Helper()
	out, status := g.Exec(ctx, command)
	if status != 0 {
		g.tb.Fatalf("%s: status %d, output:\n%s", command, status, out)
	}
	return out
}

// Start starts a bash command in the guest and returns when it runs.
func (g *Guest) Start(ctx context.Context, command string) *Command {
	g.tb.Helper()
	c, err := g.Guest.Start(ctx, command)
	if err != nil {
		g.tb.Fatal(err)
	}
	return &Command{Command: c, guest: g}
}

// WaitLine waits until the console, from the guest's start on, shows a match.
func (g *Guest) WaitLine(ctx context.Context, re *regexp.Regexp) []string {
	g.tb.Helper()
	m, err := g.Console().Wait(ctx, re)
	if err != nil {
		g.tb.Fatal(err)
	}
	return m
}

// Unpause lets a guest of [CreatePaused] run.
func (g *Guest) Unpause(ctx context.Context) {
	g.tb.Helper()
	if err := g.Guest.Unpause(ctx); err != nil {
		g.tb.Fatal(err)
	}
}

// Destroy ends the guest before the test's end.
func (g *Guest) Destroy(ctx context.Context) {
	g.tb.Helper()
	if err := g.Guest.Destroy(ctx); err != nil {
		g.tb.Fatal(err)
	}
}

// WaitLine waits until the console shows a match after the command's beginning.
func (c *Command) WaitLine(ctx context.Context, re *regexp.Regexp) []string {
	c.guest.tb.Helper()
	m, err := c.Command.WaitLine(ctx, re)
	if err != nil {
		c.guest.tb.Fatal(err)
	}
	return m
}

// Wait waits for the command's end and returns its output and exit status.
func (c *Command) Wait(ctx context.Context) (out string, status int) {
	c.guest.tb.Helper()
	out, status, err := c.Command.Wait(ctx)
	if err != nil {
		c.guest.tb.Fatal(err)
	}
	return out, status
}

// Save writes the guest to a file and ends it.
func (g *Guest) Save(ctx context.Context, file string) {
	g.tb.Helper()
	if err := g.Guest.Save(ctx, file); err != nil {
		g.tb.Fatal(err)
	}
}

// RebootGuest has a guest of [StartGuest] with Restarts reboot, and returns the one in
// its place, which is destroyed at the test's end.
func RebootGuest(tb testing.TB, g *Guest) *Guest {
	tb.Helper()
	return own(tb, guest.Spec{Name: g.Name()}, func(ctx context.Context, _ guest.Spec) (*guest.Guest, error) {
		return g.Guest.Reboot(ctx)
	})
}

// RestoreGuest makes the guest again that was saved to a file, and destroys it at the
// test's end.
func RestoreGuest(tb testing.TB, name, file string) *Guest {
	tb.Helper()
	return own(tb, guest.Spec{Name: name}, func(ctx context.Context, spec guest.Spec) (*guest.Guest, error) {
		return guest.Restore(ctx, spec.Name, file)
	})
}
