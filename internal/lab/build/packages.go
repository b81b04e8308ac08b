package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// EnsureInstalled sees to it that the machine has the packages that a build needs. It installs them if it may, which progress is told;
// otherwise the error says what to do.
func EnsureInstalled(ctx context.Context, progress func(string), packages []string) error {
	missing, err := missingPackages(ctx, packages)
	if err != nil || len(missing) == 0 {
		return err
	}
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if os.Geteuid() != 0 {
		return fmt.Errorf("packages are missing, run: sudo apt-get %s", strings.Join(install, " "))
	}
	progress("installing " + strings.Join(missing, " "))
	for _, args := range [][]string{{"update"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// missingPackages returns those that dpkg does not know as installed.
func missingPackages(ctx context.Context, packages []string) ([]string, error) {
	args := append([]string{"-W", "-f", "${Package} ${Status} ${Provides}\n"}, packages...)
	// dpkg-query fails if it does not know a name; its output tells about the others.
	out, err := exec.CommandContext(ctx, "dpkg-query", args...).Output()
	if err != nil && len(out) == 0 {
		if _, lookErr := exec.LookPath("dpkg-query"); lookErr != nil {
			return nil, fmt.Errorf("the lab builds its programs on Debian or a relative of it: %w", lookErr)
		}
	}
	return notInstalled(string(out), packages), nil
}

// notInstalled reads the output of dpkg-query.
func notInstalled(out string, packages []string) []string {
	installed := map[string]bool{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) >= 4 && f[3] == "installed" {
			installed[f[0]] = true
			for _, p := range f[4:] {
				installed[strings.TrimSuffix(p, ",")] = true
			}
		}
	}
	var missing []string
	for _, p := range packages {
		if !installed[p] {
			missing = append(missing, p)
		}
	}
	return missing
}
