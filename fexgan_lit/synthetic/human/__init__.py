"""A cast of people: ICT-FaceKit heads with skin, hair and clothes of our own, drawn by our own rasteriser."""
