package eks

import "maps"

// Tags are those of what an ARN names; nil for what is not there.
func (s *Service) Tags(w Where, arn string) map[string]string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return maps.Clone(s.tagged(w, arn))
}

func (s *Service) tagged(w Where, arn string) map[string]string {
	for _, c := range s.clusters[w] {
		if c.ARN == arn {
			return c.Tags
		}
		for _, n := range c.nodegroups {
			if n.ARN == arn {
				return n.Tags
			}
		}
		for _, a := range c.addons {
			if a.ARN == arn {
				return a.Tags
			}
		}
		for _, e := range c.entries {
			if e.ARN == arn {
				return e.Tags
			}
		}
		for _, p := range c.identities {
			if p.ARN == arn {
				return p.Tags
			}
		}
	}
	return nil
}

// tagsOf is a copy that is never nil.
func tagsOf(tags map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, tags)
	return out
}

func (s *Service) taggedBy(r *request) (map[string]string, error) {
	arn, _ := r.Input["resourceArn"].(string)
	tags := s.tagged(r.Where, arn)
	if tags == nil {
		return nil, &Error{"NotFoundException", "The resource " + arn + " was not found.", 404, nil}
	}
	return tags, nil
}

func (s *Service) tagResource(r *request) (any, error) {
	var in struct {
		Tags map[string]string `json:"tags"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	tags, err := s.taggedBy(r)
	if err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, &Error{"BadRequestException", "tags are needed", 400, nil}
	}
	next := maps.Clone(tags)
	maps.Copy(next, in.Tags)
	if problem := tagProblem(next); problem != "" {
		return nil, &Error{"BadRequestException", "Tags are not valid: " + problem, 400, nil}
	}
	maps.Copy(tags, in.Tags)
	return map[string]any{}, nil
}

func (s *Service) untagResource(r *request) (any, error) {
	var in struct {
		TagKeys words `json:"tagKeys"`
	}
	if err := r.into(&in); err != nil {
		return nil, err
	}
	tags, err := s.taggedBy(r)
	if err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(tags, key)
	}
	return map[string]any{}, nil
}

func (s *Service) listTags(r *request) (any, error) {
	tags, err := s.taggedBy(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"tags": tags}, nil
}
