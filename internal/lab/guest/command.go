package guest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
)

// lineRoom keeps a command line below what the guest's terminal takes as one
// line, 4,095 bytes; longer commands and those of several lines are sent as a
// script in pieces.
const lineRoom = 2000

// Command is a shell command running in a guest.
type Command struct {
	guest *Guest
	token string
	from  int64 // where in the console it begins
	pid   int
}

// Exec runs a bash command in the guest and returns what it printed and its
// exit status. Output that other commands print meanwhile is among it.
func (g *Guest) Exec(ctx context.Context, command string) (out string, status int, err error) {
	g.input.Lock()
	defer g.input.Unlock()
	c, err := g.begin(ctx, command, "f")
	if err != nil {
		return "", 0, err
	}
	return c.Wait(ctx)
}

// Run runs a bash command in the guest that must succeed.
func (g *Guest) Run(ctx context.Context, command string) error {
	out, status, err := g.Exec(ctx, command)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("guest: %s: %s: status %d: %s", g.spec.Name, command, status, out)
	}
	return nil
}

// Start starts a bash command in the guest and returns when it runs.
func (g *Guest) Start(ctx context.Context, command string) (*Command, error) {
	g.input.Lock()
	defer g.input.Unlock()
	return g.begin(ctx, command, "b")
}

// commands numbers them, of all guests and all users of one guest: with the
// process's id it is unique among everybody in dom0.
var commands atomic.Uint64

func (g *Guest) begin(ctx context.Context, command, mode string) (*Command, error) {
	token := fmt.Sprintf("%d.%d", os.Getpid(), commands.Add(1))
	end, err := g.console.end()
	if err != nil {
		return nil, err
	}
	c := &Command{guest: g, token: token, from: end}
	for _, line := range commandLines(token, command, mode) {
		if err := g.send(line); err != nil {
			return nil, err
		}
	}
	m, err := g.console.waitFrom(ctx, c.from, regexp.MustCompile(`@begin `+regexp.QuoteMeta(token)+` (\d+)\n`))
	if err != nil {
		return nil, fmt.Errorf("guest: %s does not start %q: %w", g.spec.Name, command, err)
	}
	if c.pid, err = strconv.Atoi(m[1]); err != nil {
		return nil, fmt.Errorf("guest: %s: %w", g.spec.Name, err)
	}
	return c, nil
}

// commandLines is the guest's protocol, see the init of its initramfs.
func commandLines(token, command, mode string) []string {
	if len(command) < lineRoom && !strings.ContainsAny(command, "\n\x00") {
		return []string{token + " " + mode + " " + command}
	}
	var lines []string
	for b := []byte(command + "\n"); len(b) > 0; {
		n := min(len(b), lineRoom)
		lines = append(lines, token+" a "+base64.StdEncoding.EncodeToString(b[:n]))
		b = b[n:]
	}
	return append(lines, token+" "+strings.ToUpper(mode)+" ")
}

func (g *Guest) send(line string) (err error) {
	// As the job's session has no terminal, opening one would make it its own,
	// with a hang-up at the guest's end.
	f, err := os.OpenFile(g.tty, os.O_WRONLY|noCTTY, 0)
	if err != nil {
		return fmt.Errorf("guest: console of %s: %w", g.spec.Name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(line + "\n"); err != nil {
		return fmt.Errorf("guest: console of %s: %w", g.spec.Name, err)
	}
	return nil
}

// PID is the pid, in the guest, of the shell that runs the command. When the
// command is a single program at the end of its line, bash becomes it.
func (c *Command) PID() int { return c.pid }

// Output is what the console shows since the command's beginning, other
// commands' output included, up to its end if it has ended.
func (c *Command) Output() (string, error) {
	b, err := c.guest.console.since(c.from)
	if err != nil {
		return "", err
	}
	return c.cut(string(b)), nil
}

func (c *Command) cut(s string) string {
	if _, rest, ok := strings.Cut(s, fmt.Sprintf("@begin %s %d\n", c.token, c.pid)); ok {
		s = rest
	}
	out, _, _ := strings.Cut(s, "@end "+c.token+" ")
	return out
}

// WaitLine waits until the console shows a match of re after the command's
// beginning.
func (c *Command) WaitLine(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	return c.guest.console.waitFrom(ctx, c.from, re)
}

// Wait waits for the command's end.
func (c *Command) Wait(ctx context.Context) (out string, status int, err error) {
	m, err := c.guest.console.waitFrom(ctx, c.from, regexp.MustCompile(`@end `+regexp.QuoteMeta(c.token)+` (\d+)\n`))
	if err != nil {
		return "", 0, err
	}
	if status, err = strconv.Atoi(m[1]); err != nil {
		return "", 0, fmt.Errorf("guest: %s: %w", c.guest.spec.Name, err)
	}
	out, err = c.Output()
	return out, status, err
}
