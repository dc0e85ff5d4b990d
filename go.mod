module biplane.dev/biplane

go 1.26
