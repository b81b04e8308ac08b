package yardstick

import "testing"

// The programs in the cache are told from others by all that they are made from.
func TestKey(t *testing.T) {
	source := map[string][]byte{"a": []byte("1"), "b": []byte("2")}
	k := key("tree", "12.2.0\n", source)
	if k != key("tree", "12.2.0", source) {
		t.Error("the end of a line tells compilers apart")
	}
	for _, other := range []string{
		key("other", "12.2.0", source), key("tree", "14.2.0", source),
		key("tree", "12.2.0", map[string][]byte{"a": []byte("1"), "b": []byte("3")}),
	} {
		if other == k {
			t.Errorf("two programs have the key %s", k)
		}
	}
}
