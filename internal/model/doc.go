// Package model is the registry of models: repositories, their immutable versions, files, validation and reports.
//
// A model ([Model], table model_repo) is a name inside a tenant. A [Version] is one immutable list of files, numbered r1, r2, ...; its manifest hash is the SHA-256 over `path NUL sha256 NUL size LF` of all
// files sorted by path. Files are blobs, stored once per tenant under `blob/<tenant>/<2 hex>/<64 hex>` of their SHA-256 (table model_blob); a row exists only for an object that is there.
//
// States of a version: pending -> validating -> ready | warned | rejected; failed when the check itself could not run (the job is repeated first). ready and warned may be served. The report of each validation
// stays (model_report). Package check looks at the files: a reject says that the files are broken or dangerous, never that our engine cannot run them.
//
// Blobs go in steps (job model.gc): not named by any version and untouched for the grace -> condemned -> later, looked at again, deleting -> object gone -> row gone. Any use in between revives a condemned one.
//
// It publishes model.version.ready, model.version.rejected and model.repo.deleted, asks nobody but [Dependents] (set by the composition root) before it deletes, and is asked through [API].
package model
