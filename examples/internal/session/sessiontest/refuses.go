package sessiontest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// Refusing returns a check that a program ends a command line with the status of a
// wrong one, and prints nothing but a message that has the words.
func Refusing(t *testing.T, run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) (refused func(words string, args ...string)) {
	return func(words string, args ...string) {
		t.Helper()
		var out, msg bytes.Buffer
		if status := run(t.Context(), args, &out, &msg); status != 2 || !strings.Contains(msg.String(), words) || out.Len() != 0 {
			t.Errorf("%q: status %d, message %q, output %q", args, status, msg.String(), out.String())
		}
	}
}
