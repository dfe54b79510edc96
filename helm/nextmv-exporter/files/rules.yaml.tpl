groups: []
