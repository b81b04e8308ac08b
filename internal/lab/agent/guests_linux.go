package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// DestroyGuests destroys every guest, so that what one job left behind cannot
// disturb the next.
func DestroyGuests(ctx context.Context) error {
	list, err := exec.CommandContext(ctx, "xl", "list").Output()
	if err != nil {
		return fmt.Errorf("agent: xl list: %w", err)
	}
	var errs []error
	for _, id := range guestIDs(string(list)) {
		if out, err := exec.CommandContext(ctx, "xl", "destroy", id).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("agent: xl destroy %s: %w: %s", id, err, out))
		}
	}
	return errors.Join(errs...)
}

// guestIDs picks the domain ids other than dom0's out of xl list's table, where
// a name may hold spaces: the id is fifth from the end.
func guestIDs(table string) []string {
	var ids []string
	lines := strings.Split(strings.TrimSpace(table), "\n")
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		if id := fields[len(fields)-5]; id != "0" {
			ids = append(ids, id)
		}
	}
	return ids
}
