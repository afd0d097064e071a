"""A cast of people: ICT-FaceKit heads with procedural skin, hair and clothes, drawn by a software rasteriser."""
