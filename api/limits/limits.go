// Package limits has the bounds that both planes hold, so that what one of them
// accepts the other does not refuse. What only one of them bounds is its own.
package limits

// TaskSpecBytes bounds a task's definition, marshalled. etcd takes objects of
// 1.5 MB, and what is larger is data that belongs into the bucket.
const TaskSpecBytes = 1 << 20
