//go:build !unix

package meter

// folderID is the folder's path, where files have no numbers.
func folderID(dir string) string { return dir }
