package awsdouble

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// callLog writes a line of JSON for each call, in the order of the answers.
type callLog struct {
	lock sync.Mutex
	to   io.Writer // nil for nowhere
}

// loggedCall is one line. What else than its own action IAM was asked about stands in
// Also. A call that IAM was not asked about has the service's name of it.
type loggedCall struct {
	Time      time.Time `json:"time"` // by the machine's clock
	Principal string    `json:"principal"`
	Via       string    `json:"via,omitempty"` // the service that calls in the principal's name
	Action    string    `json:"action"`
	Resource  string    `json:"resource"`
	Also      []asked   `json:"also,omitempty"`
	Decision  Decision  `json:"decision"`
	Status    int       `json:"status"`
}

type asked struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
}

func (l *callLog) write(seen Call) {
	if l.to == nil {
		return
	}
	one := loggedCall{Time: time.Now().UTC(), Principal: seen.Caller, Via: seen.Via, Action: seen.Service + ":" + seen.Operation, Decision: seen.Decision, Status: seen.Status}
	for i := range seen.Actions {
		if i == 0 {
			one.Action, one.Resource = seen.Actions[0], seen.Resources[0]
			continue
		}
		one.Also = append(one.Also, asked{seen.Actions[i], seen.Resources[i]})
	}
	text, err := json.Marshal(one)
	if err != nil {
		return // of texts and numbers alone: it does not happen
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	l.to.Write(append(text, '\n')) // whoever reads it finds lines missing; calls go on
}
