package yardstick

import "testing"

// The program in the cache is told from others by all that it is made from.
func TestKey(t *testing.T) {
	k := key("tree", "12.2.0\n")
	if k != key("tree", "12.2.0") {
		t.Error("the end of a line tells compilers apart")
	}
	for _, other := range []string{key("other", "12.2.0"), key("tree", "14.2.0")} {
		if other == k {
			t.Errorf("two programs have the key %s", k)
		}
	}
	saved := source
	defer func() { source = saved }()
	source = append([]byte("/* other */"), source...)
	if key("tree", "12.2.0") == k {
		t.Error("another source has the same key")
	}
}
