package model

import "maas/internal/platform/fault"

// Errors of this service.
var (
	ErrNotFound     = fault.New(fault.NotFound, "model.not_found", "there is no such model")
	ErrNoVersion    = fault.New(fault.NotFound, "model.version_not_found", "the model has no such version")
	ErrFileNotFound = fault.New(fault.NotFound, "model.file_not_found", "the version has no such file")
	ErrNoReport     = fault.New(fault.NotFound, "model.report_not_found", "the version has not been checked yet").WithHint("Wait until its status is no longer pending or validating")
	ErrNameTaken    = fault.New(fault.Conflict, "model.name_taken", "a model of this name exists already").WithHint("Choose another name, or add a version to that model")
	ErrBadName      = fault.New(fault.Invalid, "model.bad_name", "a model name has 1 to 96 letters, digits, dots, dashes and underscores")
	ErrBadPath      = fault.New(fault.Invalid, "model.bad_path", "this is not a usable file path")
	ErrNoFiles      = fault.New(fault.Invalid, "model.no_files", "a version needs at least one file")
	ErrTooManyFiles = fault.New(fault.TooLarge, "model.too_many_files", "a version has too many files")
	ErrBadUpload    = fault.New(fault.Invalid, "model.bad_upload", "an upload cannot be used for this model")
	ErrInUse        = fault.New(fault.Conflict, "model.in_use", "the model is in use").WithHint("Delete what uses it first")
	ErrBlobLost     = fault.New(fault.Internal, "model.blob_lost", "the bytes of a file are gone from the storage")
	ErrBusy         = fault.New(fault.Unavailable, "model.blob_busy", "the same file is just being deleted").WithHint("Try again in a minute")
	ErrBadRef       = fault.New(fault.Invalid, "model.bad_reference", "a model reference is a name, name@r3 or a version id")
	ErrBadRange     = fault.New(fault.Invalid, "model.bad_range", "the range lies outside of the file")
	ErrChanged      = fault.New(fault.Conflict, "model.changed", "the model was changed at the same time").WithHint("Load it again and repeat the change")
)
