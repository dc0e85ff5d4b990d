package taskaction

import (
	"context"
	"errors"
	"fmt"
	"path"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/internal/record"
)

// recover takes the outputs of the same action of another run, which the server
// that enqueued this one has found. Where that one's object was gone already, its
// record says how it ended; where there is none, this one runs as any other.
func (w *work) recover(ctx context.Context) error {
	source := w.action.Spec.RecoveredFrom
	if source == nil || len(w.status.Attempts) > 0 {
		return nil
	}
	uri := source.OutputURI
	if uri == "" {
		name, folder, err := bucket.Split(w.action.Spec.RunOutputBase)
		if err != nil {
			return nil
		}
		folder = path.Join(path.Dir(folder), source.Run, source.Action) // runs of a workspace are side by side
		kept, err := record.Read(ctx, w.Store.S3, name, folder)
		if errors.Is(err, record.ErrNone) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading how %s of run %s ended: %w", source.Action, source.Run, err)
		}
		if phase := kept.Status.Phase; phase != v1alpha1.Succeeded && phase != v1alpha1.Recovered {
			return nil
		}
		uri = kept.Status.OutputURI
	}
	if there, _, err := w.Store.Exists(ctx, uri+"/outputs.pb"); err != nil {
		return err
	} else if !there && w.declaresOutputs() {
		return nil // deleted since
	}
	w.status.OutputURI = uri
	w.finish(v1alpha1.Recovered, "Recovered", "the outputs are those of run "+source.Run)
	return nil
}
