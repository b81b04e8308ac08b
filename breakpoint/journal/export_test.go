package journal

import "os"

// SetFile has the journal written to another file until it is called off.
func SetFile(j *Journal, path string) (off func()) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		panic(err)
	}
	own := j.file
	j.file = f
	return func() {
		j.file = own
		f.Close()
	}
}
