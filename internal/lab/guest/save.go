package guest

import (
	"context"
	"fmt"
)

// Save has the toolstack write the guest to a file, which ends it.
func (g *Guest) Save(ctx context.Context, file string) error {
	if out, err := xl(ctx, "save", fmt.Sprint(g.id), file); err != nil {
		return fmt.Errorf("guest: save %s: %w: %s", g.spec.Name, err, out)
	}
	return nil
}

// Restore makes the guest of that name again that was saved to a file. It has another
// number, and the same console. The caller destroys it.
func Restore(ctx context.Context, name, file string) (*Guest, error) {
	if out, err := xl(ctx, "restore", "-e", file); err != nil {
		return nil, fmt.Errorf("guest: restore %s: %w: %s", name, err, out)
	}
	return Open(ctx, name)
}
