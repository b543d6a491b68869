"""What turns an embedding into an answer: classes, novelty, guarantee, boxes. numpy only."""
