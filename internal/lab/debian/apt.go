package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where the archive is if the machine's own apt sources name no mirror of it.
const (
	defaultMain     = "http://deb.debian.org/debian"
	defaultSecurity = "http://deb.debian.org/debian-security"
)

var keyrings = []string{
	"/usr/share/keyrings/debian-archive-keyring.gpg",
	"/usr/share/keyrings/debian-archive-keyring.pgp",
}

// ensureLists gets the archive's lists if there are none. fresh says that it did.
func (s *suite) ensureLists(ctx context.Context) (fresh bool, err error) {
	if _, err := os.Stat(filepath.Join(s.dir, "lists.stamp")); err == nil {
		return false, nil
	}
	return true, s.update(ctx)
}

// update gets the archive's lists. The record goes first: versions of one record come from one state of the lists, so that packages fit together.
func (s *suite) update(ctx context.Context) error {
	for _, f := range []string{s.recordPath(), filepath.Join(s.dir, "lists.stamp")} {
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	if _, err := s.apt(ctx, "", "apt-get", "-q", "update"); err != nil {
		return fmt.Errorf("get the package lists of %s: %w", s.name, err)
	}
	return os.WriteFile(filepath.Join(s.dir, "lists.stamp"), nil, 0o644)
}

// configure writes the sources list and the apt configuration of this suite.
func (s *suite) configure(ctx context.Context) error {
	keyring := ""
	for _, k := range keyrings {
		if _, err := os.Stat(k); err == nil {
			keyring = k
			break
		}
	}
	if keyring == "" {
		return errors.New("the keys of Debian's archive are missing: apt-get install debian-archive-keyring")
	}
	for _, d := range []string{"apt/lists/partial", "apt/archives/partial", "pkg"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return err
		}
	}
	main, security := mirrors(ctx)
	var list strings.Builder
	for _, e := range []struct{ uri, suite string }{{main, s.name}, {security, s.name + "-security"}} {
		fmt.Fprintf(&list, "deb [arch=amd64 target=Packages signed-by=%s] %s %s main\n", keyring, e.uri, e.suite)
		fmt.Fprintf(&list, "deb-src [target=Sources signed-by=%s] %s %s main\n", keyring, e.uri, e.suite)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "sources.list"), []byte(list.String()), 0o644); err != nil {
		return err
	}
	var conf strings.Builder
	for _, kv := range [][2]string{
		{"APT::Architecture", "amd64"},
		{"APT::Install-Recommends", "false"},
		{"APT::Sandbox::User", "root"}, // no drop of privileges: the cache belongs to whoever runs this
		{"APT::Update::Error-Mode", "any"},
		{"Acquire::Languages", "none"},
		{"Acquire::Retries", "3"},
		{"Dir::Etc::sourcelist", filepath.Join(s.dir, "sources.list")},
		{"Dir::Etc::sourceparts", "/dev/null"},
		{"Dir::Etc::preferences", "/dev/null"},
		{"Dir::Etc::preferencesparts", "/dev/null"},
		{"Dir::State", filepath.Join(s.dir, "apt")},
		{"Dir::State::lists", filepath.Join(s.dir, "apt/lists")},
		{"Dir::State::status", "/dev/null"},
		{"Dir::Cache", filepath.Join(s.dir, "apt")},
		{"Dir::Cache::archives", filepath.Join(s.dir, "apt/archives")},
	} {
		fmt.Fprintf(&conf, "%s %q;\n", kv[0], kv[1])
	}
	// The machine's own hooks are about the machine's own lists.
	conf.WriteString("#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n")
	conf.WriteString("#clear APT::Architectures;\nAPT::Architectures { \"amd64\"; };\n")
	return os.WriteFile(s.confPath(), []byte(conf.String()), 0o644)
}

func (s *suite) confPath() string { return filepath.Join(s.dir, "apt.conf") }

// mirrors returns the URIs under which the machine's apt sources know Debian's archive.
func mirrors(ctx context.Context) (main, security string) {
	main, security = defaultMain, defaultSecurity
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)").Output()
	if err != nil {
		return main, security // no apt, or none that can say: the run of apt itself reports it
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 || f[0] != "Debian" {
			continue
		}
		switch f[1] {
		case "Debian":
			main = f[2]
		case "Debian-Security":
			security = f[2]
		}
	}
	return main, security
}

// apt runs a program of apt in dir with this suite's configuration and returns its standard output.
func (s *suite) apt(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"-c", s.confPath()}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w (the lab is built from Debian's packages and needs apt)", program, err)
	}
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", program, args[0], err, firstError(stderr.String()))
	}
	return out, nil
}

// firstError returns apt's first error line, or all that it said.
func firstError(s string) string {
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "E:") {
			return strings.TrimSpace(line[2:])
		}
	}
	return strings.TrimSpace(s)
}

// stanza is one entry of apt's output; values of several lines keep their line breaks.
type stanza map[string]string

// parseStanzas reads RFC 822 style entries that blank lines part.
func parseStanzas(b []byte) []stanza {
	var all []stanza
	st, key := stanza{}, ""
	end := func() {
		if len(st) > 0 {
			all = append(all, st)
		}
		st, key = stanza{}, ""
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if key != "" {
				st[key] += "\n" + strings.TrimSpace(line)
			}
		default:
			k, v, ok := strings.Cut(line, ":")
			if !ok {
				key = ""
				continue
			}
			key = k
			st[key] = strings.TrimSpace(v)
		}
	}
	end()
	return all
}

// newer reports whether version a sorts after b.
func newer(ctx context.Context, a, b string) bool {
	return exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "gt", b).Run() == nil
}
