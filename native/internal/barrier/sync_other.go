//go:build !linux

package barrier

import "os"

// syncContent asks for the strongest flush the platform has (F_FULLFSYNC on macOS).
func syncContent(file *os.File) error { return file.Sync() }
